//! Whether the references answer right, tables have the shape they promise, and a small run gives every figure.

use super::*;
use super::{dir24::Dir24, dpdk::Dpdk, model::Model, subject::Subject};

#[test]
fn dir_24_8_answers_as_the_model_does() {
    let table = Table::generated(Family::V4, 100);
    let hosts = Table::hosts(Family::V4, 3000);
    let prefixes = [table.prefixes.clone(), hosts.prefixes, vec!["0.0.0.0/0".parse().unwrap()]].concat();
    let table = Table { prefixes, ..table };
    let model = Model::new(&table.prefixes);
    let mut dir = Dir24::new(&table.prefixes);
    for pattern in Pattern::ALL {
        let queries = pattern.queries(&table, &model, 1 << 13);
        let expected: Vec<u32> = queries.addresses(1 << 13).into_iter().map(|address| model.find(address)).collect();
        dir.take(&queries).unwrap();
        for batch in [1, 8, 32, 64] {
            dir.verify(batch, &expected).unwrap();
        }
        let mut wrong = expected;
        wrong[77] ^= 1;
        assert!(dir.verify(32, &wrong).is_err(), "a wrong answer goes unseen");
    }
}
