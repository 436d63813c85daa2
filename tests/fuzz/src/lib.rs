//! A small fuzzer for what reads bytes from outside.
//!
//! ```text
//!   test of a decoder ──> check ── corpus/<target>/* replayed, some random ones        with each `cargo test`
//!                              └── for TARN_FUZZ_SECONDS: mutate ──> decode ──> keep   tests/fuzz/run
//! ```
//!
//! A decoder says in a few words what it made of an input. Words that were not heard before mean another
//! way through the decoder, so the input is kept and mutated further: what coverage is elsewhere. Mutations know
//! the shape of an input ([`Shape`]), so that most of them get past its frame. The rule for a decoder: no panic, no
//! second of work, no memory beyond [`MEMORY_BYTES_MAX`] for inputs of these sizes, whatever comes.

mod mutate;
mod shape;
mod watch;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub use shape::Shape;

use mutate::Mutator;
use watch::Watch;

/// Memory that a run may grow by.
const MEMORY_BYTES_MAX: u64 = 512 << 20;
/// One input takes at most so much of a core, in a debug build.
const TIME_MAX: Duration = Duration::from_secs(2);
/// After so long an input counts as one that hangs, also where others take the cores.
const HANG: Duration = Duration::from_secs(120);
/// Longest input that is made.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Longest input that is kept in the corpus of the repository.
const KEPT_BYTES_MAX: usize = 3 << 10;
/// Inputs that are mutated further; beyond it a new one takes the place of any.
const POOL_MAX: usize = 20_000;
/// Random inputs of an ordinary test.
const ROUNDS_IN_TESTS: u64 = 300;
/// The corpus of a target in the repository: so many inputs, and their bytes.
const CORPUS_INPUTS_MAX: usize = 60;
const CORPUS_BYTES_MAX: usize = 40 << 10;

/// A decoder, and how to get at it.
pub struct Target<'a> {
    /// Its name: the folder of its corpus.
    pub name: &'static str,
    /// What its inputs look like.
    pub shape: Shape,
    /// Inputs that are in order.
    pub seeds: Vec<Vec<u8>>,
    /// Makes checksums and signatures right again; asked for most inputs.
    pub repair: &'a dyn Fn(&mut Vec<u8>),
    /// What it makes of an input, in a few words. Numbers and quoted texts in it do not count.
    pub decode: &'a dyn Fn(&[u8]) -> String,
}

/// Replays the target's corpus, and tries some random inputs; with `TARN_FUZZ` its name, fuzzes it.
///
/// # Panics
/// If the decoder panics, or takes too long or too much.
pub fn check(target: &Target<'_>) {
    let asked = std::env::var("TARN_FUZZ").is_ok_and(|asked| asked == target.name);
    if asked {
        watch::note_panics();
    }
    let mut run = Run::new(target, asked);
    for (path, input) in corpus(target.name) {
        run.execute(&input, &path.display().to_string());
    }
    let replayed = run.executions;
    run.seed();
    if !asked {
        assert!(replayed > 0, "no corpus of {}", target.name);
        run.go_on(|run| run.mutated < ROUNDS_IN_TESTS);
        return run.finish();
    }
    let seconds = std::env::var("TARN_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(60));
    run.go_on(|_| Instant::now() < end);
    run.keep();
    run.finish();
}

/// An Avro container as its inputs are: one block, not compressed. `inflate` undoes codec `deflate`; others are not taken.
pub fn without_compression(bytes: &[u8], inflate: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut container = shape::Container::read(bytes)?;
    let codec = container.header.iter_mut().find(|(key, _)| key == b"avro.codec");
    if let Some((_, codec)) = codec {
        match codec.as_slice() {
            b"null" => {}
            b"deflate" => {
                container.block = inflate(&container.block)?;
                *codec = b"null".to_vec();
            }
            _ => return None,
        }
    }
    Some(container.write())
}

/// The committed inputs of a target, in order.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder().join("corpus").join(name)) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), std::fs::read(entry.path()).ok()?)))
        .collect();
    found.sort();
    found
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Run<'a> {
    target: &'a Target<'a>,
    /// Whether time and memory are judged: only where nothing else runs in this process.
    strict: bool,
    random: SmallRng,
    mutator: Mutator,
    watch: Watch,
    /// What was said, and the shortest input that made a decoder say it.
    heard: BTreeMap<String, Vec<u8>>,
    pool: Vec<Vec<u8>>,
    began: Instant,
    executions: u64,
    mutated: u64,
    findings: BTreeMap<String, u64>,
}

impl<'a> Run<'a> {
    fn new(target: &'a Target<'a>, strict: bool) -> Self {
        let seed = std::env::var("TARN_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        Self {
            target,
            strict,
            random: SmallRng::seed_from_u64(seed),
            mutator: Mutator::default(),
            watch: Watch::start(target.name, HANG),
            heard: BTreeMap::new(),
            pool: Vec::new(),
            began: Instant::now(),
            executions: 0,
            mutated: 0,
            findings: BTreeMap::new(),
        }
    }

    fn seed(&mut self) {
        let target = self.target;
        assert!(!target.seeds.is_empty(), "no seeds of {}", target.name);
        for seed in &target.seeds {
            self.mutator.learn(seed);
            self.execute(seed, "a seed");
            self.pool.push(seed.clone());
        }
    }

    fn go_on(&mut self, more: impl Fn(&Self) -> bool) {
        while more(self) {
            let from = self.random.random_range(0..self.pool.len());
            let other = self.random.random_range(0..self.pool.len());
            let (from, other) = (self.pool[from].clone(), self.pool[other].clone());
            let mut input = self.mutator.mutate(&mut self.random, self.target.shape, &from, &other);
            input.truncate(INPUT_BYTES_MAX);
            if self.random.random_ratio(9, 10) {
                (self.target.repair)(&mut input);
            }
            self.mutated += 1;
            self.execute(&input, "a mutation");
        }
    }

    fn execute(&mut self, input: &[u8], from: &str) {
        self.executions += 1;
        self.watch.begin(input);
        let began = watch::core_time();
        let said = catch_unwind(AssertUnwindSafe(|| (self.target.decode)(input)));
        let took = watch::core_time().saturating_sub(began);
        self.watch.end();
        let grown = if self.strict && took > Duration::from_millis(5) { self.watch.grown_bytes() } else { 0 };
        let fault = match &said {
            Err(panic) => Some(format!("panic{}: {}", watch::last_panic(), text_of(panic.as_ref()))),
            Ok(_) if !self.strict => None,
            Ok(_) if took > TIME_MAX => Some("it takes too long".to_owned()),
            Ok(_) if grown > MEMORY_BYTES_MAX => Some("it takes too much memory".to_owned()),
            Ok(_) => None,
        };
        if let Some(fault) = fault {
            let fault = words(&fault);
            let count = self.findings.entry(fault.clone()).or_default();
            *count += 1;
            if *count == 1 {
                let place = self.watch.save(input).display().to_string();
                eprintln!("{}: {fault}: {from}, {} bytes, {place} ({took:?})", self.target.name, input.len());
            }
            return;
        }
        let said = words(&said.unwrap_or_default());
        match self.heard.get_mut(&said) {
            Some(known) if known.len() <= input.len() => {}
            Some(known) => *known = input.to_vec(),
            None => {
                self.heard.insert(said, input.to_vec());
                match self.pool.len() < POOL_MAX {
                    true => self.pool.push(input.to_vec()),
                    false => {
                        let place = self.random.random_range(0..self.pool.len());
                        self.pool[place] = input.to_vec();
                    }
                }
            }
        }
    }

    /// Puts what was found into the corpus of the repository, of all lengths, as far as it may grow.
    fn keep(&self) {
        let folder = folder().join("corpus").join(self.target.name);
        let kept = corpus(self.target.name);
        let mut bytes: usize = kept.iter().map(|(_, input)| input.len()).sum();
        let room = CORPUS_INPUTS_MAX.saturating_sub(kept.len());
        let mut found: Vec<_> = self.heard.values().filter(|input| input.len() <= KEPT_BYTES_MAX).collect();
        found.sort_by_key(|input| (input.len(), (*input).clone()));
        let step = found.len().div_ceil(room.max(1)).max(1);
        for input in found.into_iter().step_by(step).take(room) {
            bytes += input.len();
            let path = folder.join(name_of(input));
            if bytes > CORPUS_BYTES_MAX || std::fs::create_dir_all(&folder).is_err() {
                break;
            }
            if let Err(error) = std::fs::write(&path, input) {
                eprintln!("{}: {error}", path.display());
            }
        }
    }

    fn finish(self) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        println!(
            "{}: {} executions in {seconds:.0} s, {:.0} a second, {} ways heard, {} findings",
            self.target.name,
            self.executions,
            self.executions as f64 / seconds,
            self.heard.len(),
            self.findings.len()
        );
        assert!(self.findings.is_empty(), "{}: {:#?}", self.target.name, self.findings);
    }
}

/// A name for an input, by its content.
fn name_of(input: &[u8]) -> String {
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("of no text").to_owned()
}

/// What was said, without what differs from input to input: numbers, and texts in quotes.
fn words(said: &str) -> String {
    const CHARS_MAX: usize = 160;
    let (mut words, mut quoted) = (String::new(), false);
    for c in said.chars().take(4 * CHARS_MAX) {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => continue,
            c if c.is_ascii_digit() && words.ends_with('0') => continue,
            c if c.is_ascii_digit() => words.push('0'),
            c if c.is_ascii() => words.push(c),
            _ => {}
        }
        if words.len() >= CHARS_MAX {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_input_to_input_is_not_heard() {
        assert_eq!(words("bad column \"a b\" at 17, line 3"), "bad column  at 0, line 0");
    }

    #[test]
    fn a_decoder_that_panics_behind_a_checksum_is_found() {
        let sum = |body: &[u8]| body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let decode = |input: &[u8]| -> String {
            let Some((last, body)) = input.split_last() else { return "empty".to_owned() };
            if *last != sum(body) {
                return "checksum".to_owned();
            }
            assert!(!body.contains(&0xff), "on purpose");
            "read".to_owned()
        };
        let repair = |input: &mut Vec<u8>| {
            input.pop();
            input.push(sum(input));
        };
        let seeds = vec![vec![1, 2, 3, 6]];
        let target =
            Target { name: "selftest", shape: Shape::Bytes, seeds, repair: &repair, decode: &decode };
        let mut run = Run::new(&target, false);
        run.seed();
        run.go_on(|run| run.findings.is_empty() && run.mutated < 100_000);
        assert_eq!(run.findings.keys().collect::<Vec<_>>(), ["panic: on purpose"]);
    }
}
