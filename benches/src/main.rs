//! `cargo xtask bench`: runs the benchmarks, each in a process of its own, and writes the report.

mod allocators;
mod charts;
mod claims;
mod copies;
mod forks;
mod heap;
#[cfg(feature = "peers")]
mod jit;
mod machine;
mod policies;
mod queries;
mod regions;
mod report;
mod speed;
mod threads;

use execmem_benches::{Row, is_quick};
use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Each is run by its function, and processes of its own give the figures of the last one.
type Benchmark = (&'static str, fn(), fn(&[&str]) -> Vec<f64>);

const BENCHMARKS: &[Benchmark] = &[
    ("regions", regions::run, alone),
    ("queries", queries::run, alone),
    ("copies", copies::run, alone),
    ("heap", heap::run, heap::child),
    ("speed", speed::run, speed::child),
    ("policies", policies::run, policies::child),
    ("threads", threads::run, threads::child),
    ("claims", claims::run, alone),
    ("forks", forks::run, alone),
    #[cfg(feature = "peers")]
    ("jit", jit::run, jit::child),
];

/// Those that are kept with the sources: the table, the name, and the file.
const KEPT: [(&str, &str, &str); 3] = [
    ("How the heap grows", "fill half of the holes where every second was released", "fragmented"),
    ("How the heap grows", "find the function of an address", "find"),
    (speed::TABLE, "at random", "calls"),
];

fn alone(_: &[&str]) -> Vec<f64> {
    unreachable!("only benchmarks with processes of their own start any")
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--quick").collect();
    // A thread that fails must not leave others waiting for it.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["run", name] => find(name)?.1(),
        ["child", name, rest @ ..] => {
            let figures: Vec<String> = find(name)?.2(rest).iter().map(f64::to_string).collect();
            println!("{}", figures.join(" "));
        }
        ["report", folder, names @ ..] => report_on(Path::new(folder), names)?,
        ["keep", folder, root] => keep(Path::new(folder), Path::new(root))?,
        _ => return Err("these benchmarks are run by `cargo xtask bench`".into()),
    }
    Ok(())
}

fn find(name: &str) -> Result<Benchmark, String> {
    let known = BENCHMARKS.iter().find(|known| known.0 == name).copied();
    let names: Vec<_> = BENCHMARKS.iter().map(|known| known.0).collect();
    known.ok_or_else(|| format!("there is no benchmark {name}, but {}", names.join(", ")))
}

/// Runs those of these names, or "all", and writes the report into the folder, beside rows that are there already.
fn report_on(folder: &Path, names: &[&str]) -> Result<(), Box<dyn Error>> {
    let preface = machine::preface(is_quick());
    let all: Vec<&str> = BENCHMARKS.iter().map(|known| known.0).collect();
    let mut text = std::fs::read_to_string(folder.join("counted.txt")).unwrap_or_default();
    for name in if names == ["all"] { &all } else { names } {
        let start = Instant::now();
        text += &rows_of(find(name)?.0)?;
        eprintln!("{name}: {} s", start.elapsed().as_secs());
        // What was measured is there though a later one fails.
        std::fs::write(folder.join("rows.txt"), &text)?;
    }
    std::fs::write(folder.join("preface.md"), &preface)?;
    let rows = parsed(&text)?;
    let mut pictures = Vec::new();
    for series in report::series(rows.iter()) {
        if let Some(svg) = charts::svg(&series) {
            let file = format!("{}.svg", pictures.len() + 1);
            std::fs::write(folder.join(&file), svg?)?;
            pictures.push((series.name(), file));
        }
    }
    let path = folder.join("report.md");
    std::fs::write(&path, report::markdown(&preface, &rows, &pictures))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn parsed(text: &str) -> Result<Vec<Row>, String> {
    text.lines().map(|line| Row::from_text(line).ok_or_else(|| format!("this is no row: {line}"))).collect()
}

/// What the benchmark of that name printed.
fn rows_of(name: &str) -> Result<String, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", name]).args(is_quick().then_some("--quick")).stderr(Stdio::inherit());
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    match output.status.success() {
        true if text.is_empty() => Err(format!("the benchmark {name} printed no row").into()),
        true => Ok(text),
        false => Err(format!("the benchmark {name} failed ({})", output.status).into()),
    }
}

/// Puts the last report, with a few of its pictures, where the sources are.
fn keep(folder: &Path, root: &Path) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(folder.join("rows.txt"))?;
    let rows = parsed(&text)?;
    let mut pictures = Vec::new();
    for (table, name, file) in KEPT {
        let series = report::series(rows.iter().filter(|row| row.table == table && row.name == name));
        let svg = series.first().and_then(charts::svg).ok_or_else(|| format!("no row {table}: {name}"))?;
        let path = format!("docs/benchmarks/{file}.svg");
        std::fs::write(root.join(&path), svg?)?;
        pictures.push((series[0].name(), path));
    }
    let preface = std::fs::read_to_string(folder.join("preface.md"))?;
    std::fs::write(root.join("BENCHMARKS.md"), report::markdown(&preface, &rows, &pictures))?;
    Ok(())
}
