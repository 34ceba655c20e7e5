//! What a version does while it is loaded.

use std::time::{Instant, SystemTime};

#[allow(clippy::print_stdout, reason = "what becomes of it is what is tested")]
fn print() {
    println!("prepared");
}

pub(crate) fn run(behaviour: &str) -> Result<String, String> {
    match behaviour {
        "error" => Err("the guest refuses to start".to_owned()),
        "trap" => std::process::abort(),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(std::hint::black_box(vec![1; 1 << 20]));
            }
        }
        "print" => {
            print();
            Ok(String::new())
        }
        "clock" => Ok(format!("{:?} {:?}", Instant::now(), SystemTime::now())),
        // The standard library takes the seeds of its hash tables from the host's randomness.
        "random" => {
            let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1);
            Ok(format!("{seed}"))
        }
        // 4 MiB of prepared state, for the snapshot.
        "large" => Ok("x".repeat(4 << 20)),
        _ => Ok(String::new()),
    }
}
