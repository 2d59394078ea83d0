//! `cargo xtask bench`: the same images pushed by ecr-push, by other tools, and by a program that only sends bytes.
//!
//! Whole processes are measured, one at a time, in turns. Nothing else should run meanwhile: on loopback the registry
//! shares the processors with its clients. `cargo xtask bench --layout small --runs 1` shows in a minute whether all
//! this works. What it needs stays in `target/bench`; everything else that it makes is gone when it ends.

mod args;
mod floor;
mod image;
mod layer;
mod layouts;
mod process;
mod registry;
mod table;
mod tool;

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::json;

pub(crate) use args::Args;
use args::{Line, Scenario, ServerKind, Shape, name};
pub(crate) use floor::{Args as FloorArgs, run as floor};
use image::Image;
use layouts::Layouts;
pub(crate) use process::{ClearArgs, KeepArgs, clear, keep};
use process::{Scratch, measure};
use registry::Registry;
use table::{Row, Run};
use tool::{Place, Tool};

use crate::servers::find;

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Measures, prints tables, and says whether every push was as it should be.
pub(crate) fn run(root: &Path, target: &Path, args: &Args) -> bool {
    let done = if cfg!(debug_assertions) { again_optimized(root, target) } else { bench(root, target, args) };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        false
    })
}

/// Builds this program with optimizations and runs that: a registry that wasn't optimized would be all that is measured.
fn again_optimized(root: &Path, target: &Path) -> Done<bool> {
    build(root, &["--profile", "measure", "--package", "xtask"])?;
    // In the place of this process, so that whoever ends the one ends the other.
    Err(Command::new(target.join("measure/xtask")).args(env::args_os().skip(1)).exec().into())
}

fn build(root: &Path, what: &[&str]) -> Done {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).arg("build").args(what).current_dir(root).status()?;
    if status.success() { Ok(()) } else { Err(format!("{} doesn't build", what.join(" ")).into()) }
}

fn bench(root: &Path, target: &Path, args: &Args) -> Done<bool> {
    let mut servers = args.server.clone();
    if servers.contains(&ServerKind::DockerRegistry) && find("docker-registry").is_none() {
        eprintln!("left out: docker-registry: it isn't installed");
        servers.retain(|kind| *kind != ServerKind::DockerRegistry);
    }
    let mut tools = if args.tool.is_empty() { Tool::all() } else { args.tool.clone() };
    tools.retain(|tool| {
        let missing = tool.missing();
        if let Some(why) = &missing {
            eprintln!("left out: {}: {why}", tool.name);
        }
        missing.is_none()
    });
    if tools.iter().any(Tool::is_ours) {
        build(root, &["--release", "--bin", "ecr-push"])?;
    }
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    // Tools run elsewhere than here.
    let (folder, target) = (folder.canonicalize()?, target.canonicalize()?);
    let largest = args.layout.iter().map(|shape| layouts::bytes(*shape)).max().unwrap_or_default();
    let scratch = Scratch::new(&folder, largest * 3 / 2)?;
    let json = args.json.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    let mut bench = Bench {
        args,
        scratch: &scratch,
        ecr_push: target.join("release/ecr-push"),
        prepared: BTreeMap::new(),
        json,
        clean: true,
    };
    println!("{}\n", about(&tools));
    for shape in &args.layout {
        let layouts = layouts::provide(&folder, *shape)?;
        for scenario in &args.scenario {
            for line in &args.line {
                for server in &servers {
                    let case = Case { shape: *shape, scenario: *scenario, line: *line, server: *server };
                    let rows = bench.case(case, &layouts, &tools)?;
                    println!("{}", table::markdown(&bench.title(case), &rows));
                }
            }
        }
    }
    for (tool, name) in std::mem::take(&mut bench.prepared).into_iter().map(|((tool, _), name)| (tool, name)) {
        let known = tools.iter().find(|known| known.name == tool);
        known.map_or(Ok(()), |known| known.forget(&name, bench.place(&scratch.folder)))?;
    }
    Ok(bench.clean)
}

/// What the figures depend on.
fn about(tools: &[Tool]) -> String {
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let versions: Vec<_> = tools.iter().filter_map(Tool::version).collect();
    let peers = if versions.is_empty() { String::new() } else { format!("; {}", versions.join(", ")) };
    format!(
        "ecr-push {}, release build{peers}; {cores} processors, client and registry on the same machine",
        env!("CARGO_PKG_VERSION")
    )
}

/// What is measured in one table.
#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Shape,
    scenario: Scenario,
    line: Line,
    server: ServerKind,
}

struct Bench<'a> {
    args: &'a Args,
    scratch: &'a Scratch,
    ecr_push: PathBuf,
    /// What images are called in the stores of those that push from a store, by tool and layout.
    prepared: BTreeMap<(String, PathBuf), String>,
    json: Option<File>,
    /// Whether all went well so far.
    clean: bool,
}

impl Bench<'_> {
    fn title(&self, case: Case) -> String {
        let line = match case.line {
            Line::Loopback => "loopback".to_owned(),
            Line::Wan => "wan (20 ms, 1 Gbit/s)".to_owned(),
            Line::Ecr => "ecr (20 ms, 35 MB/s a connection)".to_owned(),
        };
        let tls = if self.args.tls { ", TLS" } else { "" };
        let runs = self.args.runs;
        let (shape, scenario, server) = (name(&case.shape), name(&case.scenario), name(&case.server));
        format!("{shape}, {scenario}, {line}{tls}, {server}: medians of {runs}")
    }

    fn place<'b>(&'b self, home: &'b Path) -> Place<'b> {
        Place { ecr_push: &self.ecr_push, store: &self.scratch.folder, mounts: &self.scratch.blobs, home }
    }

    fn case(&mut self, case: Case, layouts: &Layouts, tools: &[Tool]) -> Done<Vec<Row>> {
        eprintln!("   {}", self.title(case));
        let mut fit = Vec::new();
        for tool in tools {
            match tool.unfit(case.shape) {
                Some(why) => eprintln!("left out here: {}: {why}", tool.name),
                None => fit.push(tool),
            }
        }
        let mut rows: Vec<Row> =
            fit.iter().map(|tool| Row { tool: tool.name.clone(), floor: tool.is_floor(), runs: Vec::new() }).collect();
        let mut failed = vec![false; fit.len()];
        for round in 0..=self.args.runs {
            for at in table::order(fit.len(), usize::try_from(round)?) {
                if failed[at] {
                    continue;
                }
                match self.once(case, layouts, fit[at]) {
                    Ok(run) if round > 0 => {
                        self.note(case, fit[at], &run)?;
                        rows[at].runs.push(run);
                    }
                    // Whatever is slow only the first time was slow now.
                    Ok(_) => (),
                    Err(error) => {
                        eprintln!("FAILED: {}: {error}", fit[at].name);
                        (failed[at], self.clean) = (true, false);
                        rows[at].runs.clear();
                    }
                }
            }
        }
        Ok(rows)
    }

    /// One push to a registry of its own, and what has to be there before it.
    fn once(&mut self, case: Case, layouts: &Layouts, tool: &Tool) -> Done<Run> {
        let home = tempfile::tempdir_in(&self.scratch.folder)?;
        // The floor speaks no TLS, and is what it is without.
        let tls = self.args.tls && !tool.is_floor();
        let registry = Registry::start(case.server, case.line.link(), tls, self.scratch)?;
        let timed = if case.scenario == Scenario::OneLayer { &layouts.changed } else { &layouts.image };
        if case.scenario != Scenario::Cold {
            self.push(&registry, &layouts.image, None, tool, home.path())?;
        }
        let there = (case.scenario != Scenario::Cold).then_some(layouts.image.as_path());
        let before = registry.count()?;
        let usage = self.push(&registry, timed, there, tool, home.path())?;
        let asked = registry.count()?.since(before);
        registry.verify(&Image::read(timed)?, tool.rewrites())?;
        Ok(Run {
            wall: usage.wall,
            cpu: usage.user + usage.system,
            peak_memory: usage.peak,
            requests: asked.requests,
            sent: asked.sent,
            connections: asked.connections,
        })
    }

    fn push(
        &mut self,
        registry: &Registry,
        layout: &Path,
        there: Option<&Path>,
        tool: &Tool,
        home: &Path,
    ) -> Done<process::Usage> {
        let access = registry.access();
        access.log_in(home)?;
        let key = (tool.name.clone(), layout.to_owned());
        if !self.prepared.contains_key(&key)
            && let Some(name) = tool.prepare(layout, self.place(home))?
        {
            self.prepared.insert(key.clone(), name);
        }
        let (prepared, place) = (self.prepared.get(&key).map(String::as_str), self.place(home));
        if let Some(prepared) = prepared {
            tool.address(prepared, &access, place)?;
        }
        let (usage, _) = measure(&tool.push(layout, there, prepared, &access, place)?, home)?;
        if prepared.is_some() {
            tool.forget(&access.image(), place)?;
        }
        Ok(usage)
    }

    fn note(&mut self, case: Case, tool: &Tool, run: &Run) -> Done {
        let Some(file) = &mut self.json else { return Ok(()) };
        let mut row = json!({
            "layout": name(&case.shape),
            "scenario": name(&case.scenario),
            "line": name(&case.line),
            "server": name(&case.server),
            "tls": self.args.tls && !tool.is_floor(),
            "tool": tool.name,
        });
        if let (Some(row), serde_json::Value::Object(figures)) = (row.as_object_mut(), serde_json::to_value(run)?) {
            row.extend(figures);
        }
        Ok(writeln!(file, "{row}")?)
    }
}
