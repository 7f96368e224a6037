//! The report as text: where it loses, then all rows.

use execmem_benches::{Role, Row, Subject, Unit};

/// Rows of one name in one table: one, or as many as there are counts.
pub struct Series<'a>(pub Vec<&'a Row>);

/// In the order in which the first of each was printed.
pub fn series<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Series<'a>> {
    let mut all: Vec<Series<'a>> = Vec::new();
    for row in rows {
        match all.iter_mut().find(|known| known.0[0].table == row.table && known.0[0].name == row.name) {
            Some(known) => known.0.push(row),
            None => all.push(Series(vec![row])),
        }
    }
    all
}

/// All of it; a picture is a title and a path.
pub fn markdown(preface: &str, rows: &[Row], pictures: &[(String, String)]) -> String {
    let mut text = format!("{preface}\n## Where it loses\n\n");
    text += "Each row in which a peer or bare system calls are faster, and how many times.\n\n";
    text += "| what | ours | faster | why, and what was tried |\n|---|---|---|---|\n";
    let mut lost = series(rows.iter().filter(|row| row.subjects.iter().any(is_faster)));
    lost.sort_by(|a, b| worst(b).total_cmp(&worst(a)));
    for series in lost {
        let faster = series.beside(is_faster);
        let why = if series.0[0].why.is_empty() { "unexplained" } else { &series.0[0].why };
        text += &format!("| {} | {} | {faster} | {why} |\n", series.name(), series.ours());
    }
    let mut table = "";
    for series in series(rows.iter()) {
        if table != series.0[0].table {
            table = &series.0[0].table;
            text += &format!(
                "\n## {table}\n\n| what | ours | beside (ours / theirs) | times the limit |\n|---|---|---|---|\n"
            );
        }
        let beside = series.beside(|subject| matches!(subject.role, Role::Own | Role::Peer | Role::Bare));
        text += &format!("| {} | {} | {beside} | {} |\n", series.name(), series.ours(), series.limit());
    }
    if !pictures.is_empty() {
        text += "\n## How it grows\n\n";
    }
    for (title, path) in pictures {
        text += &format!("![{title}]({path})\n");
    }
    text
}

/// A ratio that is shown as 1.00 is none.
fn is_faster(subject: &Subject) -> bool {
    matches!(subject.role, Role::Peer | Role::Bare) && subject.ratio >= 1.005
}

fn worst(series: &Series) -> f64 {
    let faster = series.0.iter().flat_map(|row| &row.subjects).filter(|subject| is_faster(subject));
    faster.map(|subject| subject.ratio).fold(0.0, f64::max)
}

impl Series<'_> {
    /// "find, 1,000 / 10,000 blocks".
    pub fn name(&self) -> String {
        let counts = joined(self.0.iter().filter_map(|row| Some(grouped(row.at.as_ref()?.0))));
        match &self.0[0].at {
            Some((_, of)) => format!("{}, {counts} {of}", self.0[0].name),
            None => self.0[0].name.clone(),
        }
    }

    fn ours(&self) -> String {
        let figures = joined(self.0.iter().map(|row| shown(row.subjects[0].value, row.unit)));
        match &*self.0[0].subjects[0].name {
            "execmem" => figures,
            name => format!("{name} {figures}"),
        }
    }

    /// Those that are wanted: "asmjit 29 ns (0.72)".
    fn beside(&self, is_wanted: impl Fn(&Subject) -> bool) -> String {
        let each = |name: &&str| {
            let figures =
                || self.0.iter().map(|row| (row.of(name).filter(|subject| is_wanted(subject)), row.unit));
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".into());
            let values =
                joined(figures().map(|(of, unit)| or_none(of.map(|subject| shown(subject.value, unit)))));
            let ratios = joined(figures().map(|(of, _)| or_none(of.map(|subject| digits(subject.ratio)))));
            format!("{name} {values} ({ratios})")
        };
        self.names(&is_wanted).iter().map(each).collect::<Vec<_>>().join("; ")
    }

    /// What no library can beat is bare calls, if nothing else is.
    fn limit(&self) -> String {
        for role in [Role::Limit, Role::Bare] {
            if let Some(name) = self.names(&|subject| subject.role == role).first() {
                let ratios = self.0.iter().filter_map(|row| Some(digits(row.of(name)?.ratio)));
                return format!("{} {name}", joined(ratios));
            }
        }
        String::new()
    }

    /// Of all rows' subjects that are wanted.
    pub fn names(&self, is_wanted: &impl Fn(&Subject) -> bool) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for subject in self.0.iter().flat_map(|row| &row.subjects).filter(|subject| is_wanted(subject)) {
            if !names.contains(&&*subject.name) {
                names.push(&subject.name);
            }
        }
        names
    }
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(" / ")
}

/// A figure as a reader wants it.
pub fn shown(value: f64, unit: Unit) -> String {
    let (value, unit) = match unit {
        Unit::Nanoseconds if value >= 1e6 => (value / 1e6, " ms"),
        Unit::Nanoseconds if value >= 1e3 => (value / 1e3, " µs"),
        Unit::Nanoseconds => (value, " ns"),
        Unit::Bytes => (value, " bytes"),
        Unit::Times | Unit::Count | Unit::Instructions | Unit::PerMicrosecond => (value, ""),
    };
    match value.fract() == 0.0 && unit.is_empty() {
        true => grouped(value as usize),
        false => format!("{}{unit}", digits(value)),
    }
}

/// Two or three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => grouped(value.round() as usize),
        size if size >= 100.0 || (size.fract() == 0.0 && size >= 10.0) => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size > 0.0 && size < 0.01 => "<0.01".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// 100,000.
pub fn grouped(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use execmem_benches::row;

    fn rows() -> Vec<Row> {
        let find = |ours: f64, theirs: f64| {
            let subjects: [(Role, &str, &[f64]); 3] = [
                (Role::Ours, "execmem", &[ours]),
                (Role::Peer, "asmjit", &[theirs]),
                (Role::Limit, "a load", &[1.0]),
            ];
            row("The heap", "find", Unit::Nanoseconds, &subjects)
        };
        let own: [(Role, &str, &[f64]); 2] =
            [(Role::Ours, "execmem", &[9.0]), (Role::Own, "anywhere", &[1.0])];
        vec![
            find(10.0, 20.0).at(1000, "blocks"),
            find(30.0, 20.0).at(1_000_000, "blocks"),
            row("Near", "allocate", Unit::Nanoseconds, &own),
            row("Near", "free", Unit::Nanoseconds, &[own[0], (Role::Bare, "munmap", &[3.0])])
                .why("it looks first"),
        ]
    }

    #[test]
    fn what_is_lost_comes_first_the_worst_at_the_top_with_its_reason() {
        let text = markdown("# Benchmarks\n", &rows(), &[]);
        let (lost, _) = text.split_once("## The heap").expect("the first table");
        let lines: Vec<&str> = lost.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        assert_eq!(
            lines,
            [
                "| free | 9.00 ns | munmap 3.00 ns (3.00) | it looks first |",
                "| find, 1,000,000 blocks | 30 ns | asmjit 20 ns (1.50) | unexplained |",
            ]
        );
    }

    #[test]
    fn a_series_is_one_line_of_its_table() {
        let text = markdown("", &rows(), &[]);
        let line = "| find, 1,000 / 1,000,000 blocks | 10 ns / 30 ns | asmjit 20 ns / 20 ns (0.50 / 1.50) | 10 / 30 a load |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("| free | 9.00 ns | munmap 3.00 ns (3.00) | 3.00 munmap |"), "{text}");
    }
}
