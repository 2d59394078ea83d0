//! Figures: what a run gave, what several come to, and how that looks. Pure.

use serde::Serialize;

/// What one run gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of CPU, in the program and in the kernel.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) peak_memory: u64,
    pub(crate) requests: usize,
    /// Bytes of requests' bodies; none where the registry doesn't tell.
    pub(crate) sent: Option<u64>,
    /// None where nobody counts them.
    pub(crate) connections: Option<usize>,
}

/// A tool's runs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) tool: String,
    /// Whether the others are compared to it.
    pub(crate) floor: bool,
    pub(crate) runs: Vec<Run>,
}

impl Row {
    fn median(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        median(&self.runs.iter().filter_map(figure).collect::<Vec<_>>())
    }

    fn wall(&self) -> Option<f64> {
        self.median(|run| Some(run.wall))
    }
}

/// The middle one, or the mean of the two in the middle; none of none.
fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half)?;
    Some(if sorted.len() % 2 == 1 { *upper } else { f64::midpoint(sorted[half - 1], *upper) })
}

/// Which goes first, second, and so on, in this round.
pub(crate) fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |at| (at + round) % count)
}

/// A table in Markdown, the fastest first; those without a run are left out.
pub(crate) fn markdown(title: &str, rows: &[Row]) -> String {
    let mut sorted: Vec<(f64, &Row)> = rows.iter().filter_map(|row| Some((row.wall()?, row))).collect();
    sorted.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let floor = sorted.iter().find(|(_, row)| row.floor).map(|(wall, _)| *wall);
    let lines: String = sorted.iter().map(|(wall, row)| line(*wall, floor, row)).collect();
    format!(
        "### {title}\n\n\
         | tool | wall, s | min–max | to the floor | CPU, s | memory, MiB | requests | sent, MB | connections |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n{lines}"
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn line(wall: f64, floor: Option<f64>, row: &Row) -> String {
    let walls = || row.runs.iter().map(|run| run.wall);
    let (least, most) = (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max));
    let or_dash = |figure: Option<f64>, decimals: usize| {
        figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.decimals$}"))
    };
    let cells = [
        row.tool.clone(),
        format!("{wall:.3}"),
        format!("{least:.3}–{most:.3}"),
        or_dash(floor.map(|floor| wall / floor), 2),
        or_dash(row.median(|run| Some(run.cpu)), 2),
        or_dash(row.median(|run| Some(run.peak_memory as f64 / 1_048_576.0)), 1),
        or_dash(row.median(|run| Some(run.requests as f64)), 0),
        or_dash(row.median(|run| run.sent.map(|sent| sent as f64 / 1e6)), 1),
        or_dash(row.median(|run| run.connections.map(|count| count as f64)), 0),
    ];
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let check = |figures: &[f64], expected: Option<f64>| assert_eq!(median(figures), expected, "{figures:?}");
        check(&[], None);
        check(&[2.0], Some(2.0));
        check(&[9.0, 1.0], Some(5.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 9.0, 1.0, 2.0], Some(3.0));
    }

    #[test]
    fn everybody_goes_first_in_turn() {
        let check = |round, expected: [usize; 3]| assert_eq!(order(3, round).collect::<Vec<_>>(), expected, "{round}");
        check(0, [0, 1, 2]);
        check(1, [1, 2, 0]);
        check(5, [2, 0, 1]);
    }

    #[test]
    fn the_table_begins_with_the_fastest_and_compares_to_the_fastest_floor() {
        let run = |wall, connections| Run {
            wall,
            cpu: 0.25,
            peak_memory: 3 << 20,
            requests: 7,
            sent: Some(5_250_000),
            connections,
        };
        let row = |tool: &str, floor, runs| Row { tool: tool.to_owned(), floor, runs };
        let rows = [
            row("slow", false, vec![run(3.0, None), run(5.0, None), run(4.0, None)]),
            row("floor8", true, vec![run(2.0, Some(8))]),
            row("failed", false, vec![]),
            row("floor1", true, vec![run(8.0, Some(1))]),
        ];
        let expected = "\
### title

| tool | wall, s | min–max | to the floor | CPU, s | memory, MiB | requests | sent, MB | connections |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
| floor8 | 2.000 | 2.000–2.000 | 1.00 | 0.25 | 3.0 | 7 | 5.2 | 8 |
| slow | 4.000 | 3.000–5.000 | 2.00 | 0.25 | 3.0 | 7 | 5.2 | – |
| floor1 | 8.000 | 8.000–8.000 | 4.00 | 0.25 | 3.0 | 7 | 5.2 | 1 |
";
        assert_eq!(markdown("title", &rows), expected);
    }
}
