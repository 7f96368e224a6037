//! apt's own configuration: which mirror serves this machine. Both of its formats are read, as
//! `man sources.list` describes them.

use std::fmt;

/// One source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Source {
    /// Whether this source offers the suite of that name.
    pub fn has_suite(&self, name: &str) -> bool {
        self.suites.iter().any(|suite| suite == name)
    }

    /// The same mirror, offering another suite.
    pub fn with_suite(&self, name: &str) -> Source {
        Source { suites: vec![name.to_owned()], ..self.clone() }
    }
}

/// Written as a stanza.
impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Types: deb")?;
        writeln!(formatter, "URIs: {}", self.uris.join(" "))?;
        writeln!(formatter, "Suites: {}", self.suites.join(" "))?;
        writeln!(formatter, "Components: {}", self.components.join(" "))?;
        match &self.signed_by {
            Some(key) => writeln!(formatter, "Signed-By: {key}"),
            None => Ok(()),
        }
    }
}

/// The sources in a file of stanzas, `*.sources`.
pub fn parse_stanzas(text: &str) -> Vec<Source> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line.trim_end() + "\n");
    text.split("\n\n").filter_map(parse_stanza).collect()
}

fn parse_stanza(stanza: &str) -> Option<Source> {
    let words = |name| Some(split(&field(stanza, name)?));
    let enabled = field(stanza, "Enabled").is_none_or(|value| value != "no");
    let binary = words("Types")?.iter().any(|kind| kind == "deb");
    (enabled && binary).then_some(())?;
    Some(Source {
        uris: words("URIs")?,
        suites: words("Suites")?,
        components: words("Components").unwrap_or_default(),
        signed_by: field(stanza, "Signed-By"),
    })
}

/// A field's value with the lines that continue it, which start with a space.
fn field(stanza: &str, name: &str) -> Option<String> {
    let mut lines = stanza
        .lines()
        .skip_while(|line| !line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name)));
    let (_, first) = lines.next()?.split_once(':')?;
    let continued = lines.take_while(|line| line.starts_with([' ', '\t']));
    Some(continued.fold(first.trim().to_owned(), |value, line| value + "\n" + line))
}

/// The sources in a file of lines, `*.list`: `deb [signed-by=KEY] URI SUITE COMPONENT...`.
pub fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by=").map(str::to_owned)),
    })
}

fn split(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb
# as shipped
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb-src
URIs: http://mirror.example/sources
Suites: bookworm

Enabled: no
Types: deb
URIs: http://mirror.example/off
Suites: bookworm

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
";

    #[test]
    fn stanzas_give_the_mirror_of_each_enabled_binary_source() {
        let sources = parse_stanzas(STANZAS);
        let uris: Vec<_> = sources.iter().map(|source| source.uris.join(" ")).collect();
        assert_eq!(uris, ["http://mirror.example/debian", "http://mirror.example/security"]);
        assert!(sources[0].has_suite("bookworm") && sources[0].has_suite("bookworm-updates"));
        assert!(!sources[1].has_suite("bookworm"));
    }

    #[test]
    fn backports_are_written_with_the_mirror_and_the_key_of_the_release() {
        let backports = parse_stanzas(STANZAS)[0].with_suite("bookworm-backports");
        let written = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n\
                       Components: main\nSigned-By: /usr/share/keyrings/archive.gpg\n";
        assert_eq!(backports.to_string(), written);
        assert_eq!(parse_stanzas(written), [backports]);
    }

    #[test]
    fn a_key_that_stands_in_the_stanza_itself_is_kept_whole() {
        let stanza = "Types: deb\nURIs: http://mirror.example\nSuites: a\nSigned-By:\n BEGIN\n .\n END";
        let source = &parse_stanzas(stanza)[0];
        assert_eq!(source.signed_by.as_deref(), Some("\n BEGIN\n .\n END"));
    }

    #[test]
    fn lines_give_the_mirror_with_or_without_options() {
        let text = "# a comment\ndeb-src http://mirror.example/debian bookworm main\n\
                    deb http://mirror.example/debian bookworm main contrib # here\n\
                    deb [ arch=amd64 signed-by=/key.gpg ] http://other.example sid main\n";
        let sources = parse_lines(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].uris, ["http://mirror.example/debian"]);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert!(sources[1].has_suite("sid"));
        assert_eq!(sources[1].signed_by.as_deref(), Some("/key.gpg"));
    }
}
