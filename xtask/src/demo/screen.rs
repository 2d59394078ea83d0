//! What the demonstration looks like: numbered steps, colour only where it is wanted.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::image::Image;

/// Standard output as a person sees it.
pub(crate) struct Screen {
    colour: bool,
    step: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !unwanted, step: 0 }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}", self.paint("1", &format!("{}. {title}", self.step)));
    }

    /// Shows a line of what is less important.
    pub(crate) fn quiet(&self, text: &str) {
        println!("   {}", self.paint("2", text));
    }

    /// Shows a command as one would type it, over as many lines as it is given in.
    pub(crate) fn command(&self, lines: &[&str]) {
        println!("   {}", self.paint("36", &format!("$ {}", lines.join(" \\\n         "))));
    }

    /// Says that something is as promised.
    pub(crate) fn good(&self, text: &str) {
        println!("   {} {text}", self.paint("32", "ok"));
    }

    /// Shows a layout's files and what they are.
    pub(crate) fn layout(&self, folder: &Path, image: &Image) {
        say(&folder.display().to_string());
        for file in ["oci-layout", "index.json"] {
            self.quiet(&format!("├─ {file}"));
        }
        self.quiet("└─ blobs/sha256");
        let mut sizes: Vec<_> = image.parts.iter().collect();
        sizes.sort_by_key(|part| std::cmp::Reverse(part.size));
        for (at, part) in sizes.iter().enumerate() {
            let branch = if at + 1 == sizes.len() { "└─" } else { "├─" };
            let name: String = part.digest.trim_start_matches("sha256:").chars().take(12).collect();
            self.quiet(&format!("   {branch} {name}… {:>9}  {}", size(part.size), part.what));
        }
        let total = image.parts.iter().map(|part| part.size).sum();
        say(&format!("{} blobs, {} in all", image.parts.len(), size(total)));
    }
}

/// Says something.
pub(crate) fn say(text: &str) {
    println!("   {text}");
}

/// A size for people, in the units that ecr-push uses.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}
