//! The rows of the report: what a benchmark prints, a line of text each, and what the report is made of.

use crate::median;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    Nanoseconds,
    Bytes,
    Instructions,
    Count,
    /// So many times the bytes of the code itself.
    Times,
    /// Operations in a microsecond: the only one of which more is better.
    PerMicrosecond,
}

/// Who a figure is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The subject of the row.
    Ours,
    /// This library in another way.
    Own,
    Peer,
    /// System calls and stores without any library: a peer, and the limit too.
    Bare,
    /// What no library can beat.
    Limit,
}

const UNITS: [Unit; 6] =
    [Unit::Nanoseconds, Unit::Bytes, Unit::Instructions, Unit::Count, Unit::Times, Unit::PerMicrosecond];
const ROLES: [Role; 5] = [Role::Ours, Role::Own, Role::Peer, Role::Bare, Role::Limit];

/// A figure of a row.
#[derive(Debug, PartialEq)]
pub struct Subject {
    pub role: Role,
    pub name: String,
    /// The median of the rounds.
    pub value: f64,
    /// How many times worse ours is: the median of the rounds' ratios.
    pub ratio: f64,
}

/// A line of the report.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub table: String,
    pub name: String,
    /// How many of what there were, if the row is one of a series: "100,000 blocks".
    pub at: Option<(usize, String)>,
    pub unit: Unit,
    /// Why it loses, where it does, and what was tried.
    pub why: String,
    /// Ours is the first.
    pub subjects: Vec<Subject>,
}

/// A row of what was measured in the same rounds. Who has no figure has no rounds, or not-a-numbers.
pub fn row(table: &str, name: &str, unit: Unit, subjects: &[(Role, &str, &[f64])]) -> Row {
    let ours = subjects[0].2;
    let ratio =
        |ours: f64, theirs: f64| if unit == Unit::PerMicrosecond { theirs / ours } else { ours / theirs };
    let has_figure = |samples: &[f64]| !samples.is_empty() && !samples.iter().any(|sample| sample.is_nan());
    let of = |&(role, name, samples): &(Role, &str, &[f64])| Subject {
        role,
        name: name.into(),
        value: median(samples.iter().copied()),
        ratio: median(ours.iter().zip(samples).map(|(ours, theirs)| ratio(*ours, *theirs))),
    };
    let subjects = subjects.iter().filter(|subject| has_figure(subject.2)).map(of).collect();
    Row { table: table.into(), name: name.into(), at: None, unit, why: String::new(), subjects }
}

impl Row {
    /// Makes it a part of a series.
    pub fn at(mut self, count: usize, of: &str) -> Self {
        self.at = Some((count, of.into()));
        self
    }

    /// Says why it loses, where it does, and what was tried.
    pub fn why(mut self, why: &str) -> Self {
        self.why = why.into();
        self
    }

    /// The figure of a subject.
    pub fn of(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// Tells it to who makes the report, unless nothing was measured.
    pub fn print(&self) {
        if !self.subjects.is_empty() {
            println!("{}", self.to_text());
        }
    }

    /// Fields between tabs, and four for each subject.
    fn to_text(&self) -> String {
        let (at, of) = self.at.clone().unwrap_or_default();
        let mut text =
            format!("row\t{}\t{}\t{at}\t{of}\t{:?}\t{}", self.table, self.name, self.unit, self.why);
        for Subject { role, name, value, ratio } in &self.subjects {
            text += &format!("\t{role:?}\t{name}\t{value}\t{ratio}");
        }
        text
    }

    /// What `print` printed; nothing for any other line.
    pub fn from_text(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["row", table, name, at, of, unit, why, subjects @ ..] = &fields[..] else { return None };
        let unit = UNITS.into_iter().find(|known| format!("{known:?}") == *unit)?;
        let subject = |fields: &[&str]| -> Option<Subject> {
            let [role, name, value, ratio] = fields else { return None };
            let role = ROLES.into_iter().find(|known| format!("{known:?}") == *role)?;
            let [value, ratio] = [value, ratio].map(|number| number.parse().ok());
            Some(Subject { role, name: (*name).into(), value: value?, ratio: ratio? })
        };
        Some(Self {
            table: (*table).into(),
            name: (*name).into(),
            at: (!of.is_empty()).then_some((at.parse().ok()?, (*of).into())),
            unit,
            why: (*why).into(),
            subjects: subjects.chunks(4).map(subject).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_printed() {
        let printed = row("heap", "find", Unit::Nanoseconds, &[(Role::Ours, "execmem", &[8.5])])
            .at(1000, "blocks")
            .why("it has to");
        assert_eq!(Row::from_text(&printed.to_text()), Some(printed));
        assert_eq!(Row::from_text("anything else"), None);
    }

    #[test]
    fn a_ratio_above_one_is_worse_whatever_the_unit() {
        for (unit, worse, best) in [(Unit::Nanoseconds, 3.0, 1.0), (Unit::PerMicrosecond, 1.0, 3.0)] {
            let subjects: [(Role, &str, &[f64]); 3] = [
                (Role::Ours, "execmem", &[worse]),
                (Role::Peer, "other", &[best]),
                (Role::Peer, "none", &[]),
            ];
            let row = row("", "", unit, &subjects);
            assert!(row.subjects[1].ratio > 1.0, "{row:?}");
            assert_eq!(row.subjects.len(), 2, "who has no figure is not there");
        }
    }

    #[test]
    fn the_ratio_is_that_of_rounds_not_of_medians() {
        let subjects: [(Role, &str, &[f64]); 2] =
            [(Role::Ours, "execmem", &[1.0, 20.0, 30.0]), (Role::Peer, "other", &[1.0, 10.0, 30.0])];
        assert_eq!(row("", "", Unit::Bytes, &subjects).subjects[1].ratio, 1.0);
    }
}
