//! Pictures of how figures grow.

use crate::report::{Series, grouped};
use execmem_benches::{Role, Unit};
use plotters::prelude::*;

const SIZE: (u32, u32) = (640, 360);
/// Ours is the first.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x12, 0x50, 0x7e),
    RGBColor(0xd9, 0x6c, 0x06),
    RGBColor(0x3c, 0x8d, 0x40),
    RGBColor(0x9b, 0x3f, 0x9b),
    RGBColor(0x8a, 0x6d, 0x3b),
    RGBColor(0x77, 0x77, 0x77),
];

/// The picture of a series of three counts or more, as SVG.
pub fn svg(series: &Series) -> Option<Result<String, Box<dyn std::error::Error>>> {
    (series.0.len() >= 3 && series.0[0].at.is_some()).then(|| draw(series))
}

fn draw(series: &Series) -> Result<String, Box<dyn std::error::Error>> {
    let rows = &series.0;
    let lines: Vec<(&str, Vec<(f64, f64)>)> = series
        .names(&|subject| subject.role != Role::Limit || subject.value > 0.0)
        .into_iter()
        .map(|name| {
            let points = rows.iter().filter_map(|row| Some((row.at.as_ref()?.0 as f64, row.of(name)?.value)));
            (name, points.collect())
        })
        .collect();
    let points = || lines.iter().flat_map(|line| &line.1);
    let range = |of: fn(&(f64, f64)) -> f64| {
        points()
            .map(of)
            .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)))
    };
    let ((left, right), (low, high)) = (range(|point| point.0), range(|point| point.1));
    let unit = match rows[0].unit {
        Unit::Nanoseconds => "nanoseconds",
        Unit::PerMicrosecond => "in a microsecond",
        _ => "",
    };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("{} ({unit})", rows[0].name);
        let of = rows[0].at.as_ref().map_or("", |at| &at.1);
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((left..right).log_scale(), (low * 0.8..high * 1.25).log_scale())?;
        let number =
            |value: &f64| if *value < 10.0 { format!("{value}") } else { grouped(value.round() as usize) };
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(of)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style(("sans-serif", 12))
            .draw()?;
        for ((name, points), colour) in lines.into_iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style).point_size(3))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 12))
            .draw()?;
        root.present()?;
    }
    Ok(text)
}
