//! The command line.

use crate::returns::Returns;
use crate::sample::SAMPLE;

/// What `--help` prints.
pub const HELP: &str = "\
usage: run_object [OPTIONS] [FILE... FUNCTION [up to six integers]]

Links object files and archives with each other and with this process, and calls a function in them. Only what the
function reaches is linked. Without a file it runs the sample that it has with it.

  FILE                 an object (cc -c, rustc --emit obj) or an archive (ar): a name with a / in it, or with .o or .a at
                       its end. The first word is always one
  -l LIBRARY           a shared library, by its short name (-l m) or its path; or an archive that the C compiler finds
                       (-l gcc)
  --returns i64        the result is an integer (so it is without this option)
            hex        the same, in hexadecimal
            f64        a double
            str        a C string
            void       nothing
  --help               this text

The environment variable EXECMEM_POLICY names what code memory is made of: rwx, dual, toggle, jit, auto.
";

/// What to say where that text would be too much.
const USAGE: &str = "usage: run_object [OPTIONS] [FILE... FUNCTION [up to six integers]] (--help tells more)";

/// What the command line asks for.
pub enum Command {
    Help,
    Run(Job),
}

/// What to run.
pub struct Job {
    files: Vec<String>,
    pub libraries: Vec<String>,
    pub function: String,
    pub arguments: Vec<i64>,
    pub returns: Returns,
}

/// A file's name and its bytes.
pub type File = (String, Vec<u8>);

/// Reads the words of the command line.
pub fn parse(words: Vec<String>) -> Result<Command, String> {
    let mut job = Job {
        files: Vec::new(),
        libraries: Vec::new(),
        function: "sample".into(),
        arguments: vec![10],
        returns: Returns::Integer,
    };
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next_if(|word| word.starts_with('-') && word.len() > 1) {
        let mut value = || words.next().ok_or_else(|| USAGE.to_string());
        match &*word {
            "--help" | "-h" => return Ok(Command::Help),
            "-l" => job.libraries.push(value()?),
            "--returns" => job.returns = Returns::named(&value()?)?,
            _ => match (word.strip_prefix("-l"), word.strip_prefix("--returns=")) {
                (Some(name), _) => job.libraries.push(name.into()),
                (_, Some(name)) => job.returns = Returns::named(name)?,
                _ => return Err(format!("there is no option {word}: {USAGE}")),
            },
        }
    }
    let is_file = |word: &String| word.contains('/') || word.ends_with(".o") || word.ends_with(".a");
    job.files.extend(words.next());
    while let Some(word) = words.next_if(is_file) {
        job.files.push(word);
    }
    if job.files.is_empty() {
        return Ok(Command::Run(job));
    }
    job.function = words.next().ok_or(USAGE)?;
    job.arguments = words.map(|word| integer(&word)).collect::<Result<_, _>>()?;
    if job.arguments.len() > 6 {
        return Err(USAGE.into());
    }
    Ok(Command::Run(job))
}

impl Job {
    /// The files, or the bundled sample.
    pub fn read_files(&self) -> Result<Vec<File>, String> {
        if self.files.is_empty() {
            return Ok(vec![(SAMPLE.0.into(), SAMPLE.1.into())]);
        }
        let read = |path: &String| match std::fs::read(path) {
            Ok(bytes) => Ok((path.clone(), bytes)),
            Err(error) => Err(format!("{path}: {error}")),
        };
        self.files.iter().map(read).collect()
    }
}

/// A decimal or `0x` hexadecimal number of 64 bits, signed or not.
fn integer(word: &str) -> Result<i64, String> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    match magnitude {
        Ok(magnitude) if !negative => Ok(magnitude as i64),
        Ok(magnitude) if magnitude <= 1 << 63 => Ok((magnitude as i64).wrapping_neg()),
        _ => Err(format!("{word} is not a 64-bit integer")),
    }
}
