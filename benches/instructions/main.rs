//! The instructions of parts of the service: `benches/instructions/run.sh`. `docs/performance.md` says what each bench covers.
//!
//! Each bench repeats its operation [`OPERATIONS`] times on one thread, after a warm-up that is not counted. What a bench returns is dropped afterwards,
//! and is not counted either. The counter is switched by the name of the module that the macro makes around a bench, so what is long is in a function
//! elsewhere: a closure here must be inlined. A count must not depend on the time: the clock stands still, and nothing waits.

mod api;
mod commands;
mod followers;
mod orders;

use std::hint::black_box;

use bytes::Bytes;
use gungraun::prelude::*;
use ordersystem::{
    application::{pipeline::Operation, requests::CommandKind},
    codec,
    domain::order::{decide, evolve},
    id_generator::IdGenerator,
    ports::event_store::EventStore as _,
    telemetry::call::LoggedOrder,
};

use api::Calls;
use commands::{Commands, Dispatch};
use followers::{Delivering, Projecting};
use orders::{Appending, Histories, Life, OPERATIONS, encoded, polled};

// As the service has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What begins at a multiple of the size of a cache line.
#[repr(align(64))]
struct Line([u8; 64]);

/// Runs `work` on a stack that begins at such a place. Otherwise it begins where the path of the program and its environment end, on which depends how
/// many instructions a copy of memory takes.
#[inline(never)]
fn aligned<T>(work: impl FnOnce() -> T) -> T {
    let line = black_box(Line([0; 64]));
    let done = work();
    black_box(&line.0);
    done
}

fn repeated(mut operation: impl FnMut()) {
    aligned(|| (0..OPERATIONS).for_each(|_| operation()));
}

// The four commands of an order's life.
#[library_benchmark(setup = Life::new)]
fn decide_life(life: Life) -> Life {
    repeated(|| {
        for (before, command) in life.states.iter().zip(&life.commands) {
            black_box(decide(black_box(before.as_ref()), command)).expect("allowed");
        }
    });
    life
}

// The four events of an order's life.
#[library_benchmark(setup = Life::new)]
fn evolve_life(life: Life) -> Life {
    repeated(|| {
        for (before, event) in life.states.iter().zip(&life.events) {
            black_box(evolve(black_box(before.as_ref()), event)).expect("follows");
        }
    });
    life
}

// The event of a new order, of two items.
#[library_benchmark(setup = Life::new)]
fn encode_event(life: Life) -> Life {
    repeated(|| {
        black_box(codec::encode(black_box(&life.events[0]), orders::record(1)));
    });
    life
}

// The same event.
#[library_benchmark(setup = encoded)]
fn decode_event(payload: Bytes) -> Bytes {
    repeated(|| {
        black_box(codec::decode(black_box(&payload))).expect("an event");
    });
    payload
}

// One id.
#[library_benchmark(setup = orders::ids)]
fn next_id(ids: IdGenerator) -> IdGenerator {
    repeated(|| {
        black_box(ids.next()).expect("an id");
    });
    ids
}

// A commit of one event, which begins an order.
#[library_benchmark(setup = Appending::new)]
fn append(appending: Appending) -> Appending {
    let Appending { store, commits } = appending;
    aligned(|| {
        for commit in commits {
            black_box(polled(store.append(commit))).expect("appended");
        }
    });
    Appending { store, commits: Vec::new() }
}

// The four events of an order, as an event stream reads them.
#[library_benchmark(setup = Histories::new)]
fn read_history(histories: Histories) -> Histories {
    aligned(|| histories.read());
    histories
}

// What the pipeline adds to a command.
#[library_benchmark(setup = Dispatch::new)]
fn dispatch(dispatch: Dispatch) -> Dispatch {
    repeated(|| {
        let work = async { Ok(()) };
        polled(dispatch.pipeline.run_about(
            LoggedOrder::NONE,
            Operation::Command(CommandKind::CreateOrder),
            black_box(work),
        ))
        .expect("done");
    });
    dispatch
}

fn execute(commands: Commands) -> Commands {
    let Commands { mediator, requests } = commands;
    aligned(|| {
        for request in requests {
            black_box(polled(mediator.execute(black_box(request)))).expect("accepted");
        }
    });
    Commands { mediator, requests: Vec::new() }
}

// A new order, from the mediator to the log.
#[library_benchmark(setup = Commands::create)]
fn create_order(commands: Commands) -> Commands {
    execute(commands)
}

// The payment of an order that is cached.
#[library_benchmark(setup = Commands::pay)]
fn pay_order(commands: Commands) -> Commands {
    execute(commands)
}

// An event of a batch, from the stored bytes to the rows.
#[library_benchmark(setup = Projecting::new)]
fn project_event(projecting: Projecting) -> Projecting {
    aligned(|| projecting.apply());
    projecting
}

// An event of a batch, from the bus to a handler that does nothing, and its acknowledgement.
#[library_benchmark(setup = Delivering::new)]
fn deliver_event(delivering: Delivering) -> Delivering {
    aligned(|| delivering.run());
    delivering
}

// A new order as JSON, and the reply.
#[library_benchmark(setup = Calls::rest_create)]
fn rest_create_order(calls: Calls) -> Calls {
    aligned(|| calls.make())
}

// An order that is cached, as JSON.
#[library_benchmark(setup = Calls::rest_get)]
fn rest_get_order(calls: Calls) -> Calls {
    aligned(|| calls.make())
}

// The history of an order, of one event, as JSON.
#[library_benchmark(setup = Calls::rest_history)]
fn rest_get_history(calls: Calls) -> Calls {
    aligned(|| calls.make())
}

// The same new order over gRPC.
#[library_benchmark(setup = Calls::grpc_create)]
fn grpc_create_order(calls: Calls) -> Calls {
    aligned(|| calls.make())
}

library_benchmark_group!(
    name = service,
    benchmarks = [
        decide_life,
        evolve_life,
        encode_event,
        decode_event,
        next_id,
        append,
        read_history,
        dispatch,
        create_order,
        pay_order,
        project_event,
        deliver_event,
        rest_create_order,
        rest_get_order,
        rest_get_history,
        grpc_create_order,
    ]
);

main!(library_benchmark_groups = service);
