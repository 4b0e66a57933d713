//! A garant with one engine more: the edits that a new engine needs outside its crate, but for Cargo.toml.

use std::process::ExitCode;

use garant::{EngineEntry, Given, Made, PolicyPart, Registry};

fn main() -> ExitCode {
    let mut registry = Registry::garant();
    // The list of the parts of the policy, garant/src/parts.rs.
    registry.parts.push(PolicyPart::of::<garant_toy::Config>());
    // The list of engines, garant/src/engines.rs.
    registry.engines.push(EngineEntry {
        name: garant_toy::NAME,
        kinds: garant_toy::KINDS,
        own_thread: false,
        commands: garant_toy::commands,
        make: |given: &Given| {
            let greeter = garant_toy::Greeter::new(given.part()?);
            let (figures, door) = (greeter.figures(), greeter.door());
            Ok(Made::new(greeter).figures(figures).door(door))
        },
    });
    garant::main(&registry)
}
