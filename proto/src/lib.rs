//! What masters and node agents say to each other: the code made from `proto/*.proto`. No logic lives here.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::too_many_lines, unreachable_pub)]

/// The node agent's streams (`agent.proto`).
pub mod agent {
    tonic::include_proto!("quorate.agent.v1");
}

/// Joins of masters and nodes (`join.proto`).
pub mod join {
    tonic::include_proto!("quorate.join.v1");
}

/// Raft among the masters (`raft.proto`).
pub mod raft {
    tonic::include_proto!("quorate.raft.v1");
}
