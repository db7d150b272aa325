//! Look-ups alone: every table, traffic and batch, Altitude and the references in turns.

use std::time::Instant;

use super::{
    Bench, LpmError, Row,
    altitude::Altitude,
    dir24::Dir24,
    dpdk::Dpdk,
    model::Model,
    subject::Subject,
    table::{Family, Table},
    traffic::Pattern,
};
use crate::bench::median;

impl Bench<'_> {
    /// Builds every subject of a table and measures the cases that are wanted.
    pub(super) fn lookups(&self, table: &Table, patterns: &[Pattern], batches: &[usize]) -> Result<(), LpmError> {
        let name = format!("{}/{}", table.family.name(), table.name);
        let case = |pattern: Pattern, batch: usize| match batch {
            1 => format!("{name}/{}/single", pattern.name()),
            _ => format!("{name}/{}/b{batch}", pattern.name()),
        };
        let cases: Vec<(Pattern, usize, String)> = patterns
            .iter()
            .flat_map(|pattern| batches.iter().map(move |batch| (*pattern, *batch)))
            .map(|(pattern, batch)| (pattern, batch, case(pattern, batch)))
            .filter(|(_, _, case)| self.wants(case))
            .collect();
        let extra = ["build", "memory"].iter().any(|extra| self.wants(&format!("{name}/{extra}")));
        if cases.is_empty() && !extra {
            return Ok(());
        }
        self.progress(&format!("{name}: building for {} prefixes", table.prefixes.len()));
        let start = Instant::now();
        let mut altitude = Altitude::new(table)?;
        self.built(&name, &altitude, start);
        let mut references = self.references(table, &name)?;
        let mut subjects: Vec<&mut dyn Subject> = vec![&mut altitude];
        subjects.extend(references.iter_mut().map(|reference| &mut **reference as &mut dyn Subject));
        self.memory(&name, &subjects, table.prefixes.len());
        let model = Model::new(&table.prefixes);
        for pattern in patterns {
            let of_pattern: Vec<_> = cases.iter().filter(|(of, ..)| of == pattern).collect();
            if of_pattern.is_empty() {
                continue;
            }
            let queries = pattern.queries(table, &model, self.sizes.queries);
            let first = queries.addresses(self.sizes.verified);
            let expected: Vec<u32> = first.into_iter().map(|address| model.find(address)).collect();
            for subject in &mut subjects {
                subject.take(&queries)?;
                batches.iter().try_for_each(|batch| subject.verify(*batch, &expected))?;
            }
            for (_, batch, case) in of_pattern {
                self.rounds(case, &mut subjects, *batch)?;
            }
        }
        Ok(())
    }

    fn built(&self, name: &str, subject: &dyn Subject, start: Instant) {
        self.figure(format!("{name}/build"), subject.name(), start.elapsed().as_secs_f64() * 1e3, "ms");
    }

    /// DIR-24-8 for IPv4, and DPDK's table where it is installed.
    fn references(&self, table: &Table, name: &str) -> Result<Vec<Box<dyn Subject>>, LpmError> {
        let mut references: Vec<Box<dyn Subject>> = Vec::new();
        if table.family == Family::V4 {
            for huge in [false, true] {
                let start = Instant::now();
                let dir = Dir24::new(&table.prefixes, huge)?;
                self.built(name, &dir, start);
                references.push(Box::new(dir));
            }
        }
        if let Some(program) = &self.program {
            match Dpdk::start(program, self.reader.id, table) {
                Ok(started) => references.push(Box::new(started)),
                Err(why) => self.skip(&format!("{name}: {why}")),
            }
        }
        Ok(references)
    }

    /// What each occupies, the first beside the others.
    fn memory(&self, name: &str, subjects: &[&mut dyn Subject], prefixes: usize) {
        let case = format!("{name}/memory");
        if !self.wants(&case) {
            return;
        }
        let octets: Vec<f64> = subjects.iter().map(|subject| subject.octets() as f64).collect();
        let values: Vec<Vec<f64>> = octets.iter().map(|octets| vec![octets / 1024.0 / 1024.0]).collect();
        self.beside(&case, subjects, &values, "MiB");
        self.figure(format!("{case}/prefix"), subjects[0].name(), octets[0] / prefixes as f64, "octets");
    }

    /// Rounds in turns, each round another one first; the first round warms caches up and is not counted.
    fn rounds(&self, case: &str, subjects: &mut [&mut dyn Subject], batch: usize) -> Result<(), LpmError> {
        let effort = self.options.effort;
        let mut values = vec![Vec::new(); subjects.len()];
        for round in 0..=effort.rounds {
            for turn in 0..subjects.len() {
                let index = (round + turn) % subjects.len();
                let value = subjects[index].round(batch, effort.round)?;
                if round > 0 {
                    values[index].push(value);
                }
            }
        }
        self.beside(case, subjects, &values, "ns");
        Ok(())
    }

    /// A row for each reference, and the first subject's own beside each of them.
    fn beside(&self, case: &str, subjects: &[&mut dyn Subject], values: &[Vec<f64>], unit: &'static str) {
        let row = |index: usize, reference: Option<usize>| Row {
            bench: "lpm",
            case: case.to_owned(),
            subject: subjects[index].name(),
            value: median(&values[index]),
            unit,
            reference: reference.map(|reference| subjects[reference].name()),
            ratio: reference.map(|reference| {
                let pairs = values[index].iter().zip(&values[reference]);
                median(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
            }),
        };
        (1..subjects.len()).for_each(|reference| self.report.row(&row(reference, None)));
        if subjects.len() == 1 {
            self.report.row(&row(0, None));
        }
        (1..subjects.len()).for_each(|reference| self.report.row(&row(0, Some(reference))));
    }
}
