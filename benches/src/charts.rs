//! Pictures of how figures grow.

use crate::report::{Series, grouped, shown};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;

const SIZE: (u32, u32) = (760, 360);
/// How much of that the lines' names have.
const NAMES: u32 = 210;
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
        .names(&|_| true)
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
    let mut text = String::new();
    let counts = left..right;
    // What hardly grows is seen from nothing on.
    match low == 0.0 || high < 20.0 * low {
        true => plot(&mut text, series, &lines, counts, 0.0..high * 1.1),
        false => plot(&mut text, series, &lines, counts, (low * 0.8..high * 1.25).log_scale()),
    }?;
    Ok(text)
}

/// Draws into the text, by any scale for the figures.
fn plot<Y>(
    text: &mut String,
    series: &Series,
    lines: &[(&str, Vec<(f64, f64)>)],
    counts: Range<f64>,
    figures: Y,
) -> Result<(), Box<dyn std::error::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let (first, of) = (series.0[0], series.0[0].at.as_ref().map_or("", |at| &at.1));
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&first.name, ("sans-serif", 16))
        .margin(10)
        .margin_right(NAMES)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(counts.log_scale(), figures)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(of)
        .y_labels(6)
        .x_label_formatter(&|count| grouped(count.round() as usize))
        .y_label_formatter(&|value| shown(*value, first.unit))
        .label_style(("sans-serif", 12))
        .draw()?;
    // Each line has its name at its end, where there is room.
    let mut names = Vec::new();
    for ((name, points), colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        if let Some(end) = points.last() {
            let (x, y) = chart.backend_coord(end);
            names.push((y, x, *name, colour));
        }
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))?;
    }
    names.sort_by_key(|name| name.0);
    let mut free = 0;
    for (y, x, name, colour) in names {
        let y = free.max(y - 6);
        free = y + 15;
        root.draw(&Text::new(name, (x + 8, y), ("sans-serif", 12).into_font().color(&colour)))?;
    }
    root.present()?;
    Ok(())
}
