//! Runs a workload like that of a JIT with two tiers, and writes what the code heap looked like meanwhile: a picture
//! (`heap_map.svg`), and a page with a slider for the time (`heap_map.html`), into the folder that is named, or this one.

use execmem::{ChunkPicture, Function, runtime};
use std::fmt::Write;
use std::path::PathBuf;

type Compiled = unsafe extern "C" fn();

/// Looks at the heap.
const MOMENTS: usize = 60;
/// Functions that are compiled between two looks.
const FUNCTIONS: usize = 400;

/// Numbers that are the same in each run: xorshift, by G. Marsaglia (2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end) as usize
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    let moments = run()?;
    let last = moments.last().map(Vec::as_slice).unwrap_or_default();
    std::fs::write(folder.join("heap_map.svg"), svg(last))?;
    std::fs::write(folder.join("heap_map.html"), page(&moments))?;
    println!("{} chunks at the end; see {}", last.len(), folder.join("heap_map.html").display());
    Ok(())
}

/// First everything is compiled quickly, in many small pieces. Then what is hot is compiled again, in larger ones, and its
/// first version is freed; at the end, a module is unloaded.
fn run() -> Result<Vec<Vec<ChunkPicture>>, execmem::Error> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut live: Vec<Function<Compiled>> = Vec::new();
    let mut moments = Vec::new();
    for moment in 0..MOMENTS {
        for _ in 0..FUNCTIONS {
            match moment * 3 / MOMENTS {
                0 => live.push(compiled(64 + random.below(960))?),
                1 => {
                    live.swap_remove(random.below(live.len() as u64));
                    live.push(compiled(256 + random.below(4096))?);
                }
                _ if random.below(4) == 0 => {}
                _ => drop(live.swap_remove(random.below(live.len() as u64))),
            }
        }
        let mut chunks = Vec::new();
        runtime().each_chunk(&mut |chunk| chunks.push(chunk));
        chunks.sort_by_key(|chunk| chunk.address);
        moments.push(chunks);
    }
    Ok(moments)
}

/// A function of so many bytes. None of them is called.
fn compiled(size: usize) -> Result<Function<Compiled>, execmem::Error> {
    Function::new(&vec![0; size])
}

/// The colours of a part, by its letter.
const COLOURS: [(u8, &str, &str); 5] = [
    (b'#', "#12507e", "live blocks"),
    (b'+', "#4a90c4", "half or more"),
    (b'-', "#a9d0ec", "less"),
    (b',', "#f0c987", "free, once code"),
    (b'.', "#eeeeee", "free"),
];

const PART: usize = 12;
const ROW: usize = 26;
const TOP: usize = 30;
const LEFT: usize = 170;

fn svg(chunks: &[ChunkPicture]) -> String {
    let mut text = String::new();
    let (width, height) = (LEFT + 64 * PART + 10, TOP + ROW * chunks.len().max(1));
    let _ = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"monospace\" font-size=\"11\">"
    );
    for (index, (_, colour, meaning)) in COLOURS.iter().enumerate() {
        let x = LEFT + index * 140;
        let _ = write!(text, "<rect x=\"{x}\" y=\"6\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = write!(text, "<text x=\"{}\" y=\"16\">{meaning}</text>", x + 18);
    }
    for (row, chunk) in chunks.iter().enumerate() {
        let y = TOP + row * ROW;
        let _ = write!(
            text,
            "<text x=\"4\" y=\"{}\">{:#x} {:>5}K</text>",
            y + 14,
            chunk.address,
            chunk.length >> 10
        );
        for (index, part) in chunk.parts.iter().enumerate() {
            let colour =
                COLOURS.iter().find(|(letter, ..)| letter == part).map_or("#000", |(_, colour, _)| colour);
            let (x, width) = (LEFT + index * PART, PART - 1);
            let _ =
                write!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"20\" fill=\"{colour}\"/>");
        }
    }
    text + "</svg>\n"
}

/// All pictures in one file that needs no other; the slider shows one of them.
fn page(moments: &[Vec<ChunkPicture>]) -> String {
    let mut text = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Code heap</title>\n\
         <style>body{{font-family:sans-serif;margin:1em}}div{{display:none}}div.now{{display:block}}input{{width:60em}}</style>\n\
         <p>{FUNCTIONS} functions a step: compiled, then compiled again larger, then freed.</p>\n\
         <p><input type=\"range\" min=\"0\" max=\"{}\" value=\"0\"> <output></output></p>\n",
        moments.len().saturating_sub(1)
    );
    for chunks in moments {
        let _ = writeln!(text, "<div>{}</div>", svg(chunks));
    }
    text + "<script>\n\
        const slider = document.querySelector('input'), pictures = document.querySelectorAll('div');\n\
        function show() {\n\
          pictures.forEach((picture, index) => picture.classList.toggle('now', index == slider.value));\n\
          document.querySelector('output').textContent = 'step ' + slider.value;\n\
        }\n\
        slider.addEventListener('input', show);\n\
        show();\n\
        </script>\n"
}
