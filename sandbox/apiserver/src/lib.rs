//! An embeddable Kubernetes-style API server.
//!
//! It keeps objects in memory, speaks the Kubernetes API over TLS (HTTP/1.1 and HTTP/2) and in process, and knows
//! nothing of whoever embeds it: built-in kinds are data, other kinds come as CustomResourceDefinitions.
//!
//! ```no_run
//! # async fn example() -> Result<(), lattice_apiserver::Error> {
//! use lattice_apiserver::{ApiServer, Config};
//!
//! let server = ApiServer::new(Config::default())?;
//! let serving = server.serve("127.0.0.1:0".parse().expect("an address")).await?;
//! let kubeconfig = server.kubeconfig(&serving.addr())?;
//! let client = server.client();
//! # let _ = (kubeconfig, client); Ok(()) }
//! ```

mod admission;
mod apply;
mod auth;
mod bootstrap;
mod certs;
mod config;
mod controllers;
mod convert;
mod core;
mod crd;
mod discovery;
mod error;
mod faults;
mod field;
#[cfg(test)]
mod fuzz;
mod http;
mod json;
mod kinds;
mod kubelets;
mod meta;
mod metrics;
mod names;
mod openapi;
mod options;
mod patch;
mod pods;
mod protobuf;
mod quantity;
mod rest;
mod rules;
mod schema;
mod selector;
mod server;
mod services;
mod state;
mod status;
mod store;
mod strategy;
mod time;
mod view;

pub use config::{Clock, Config, History};
pub use error::Error;
pub use faults::{Effect, Fault, Faults};
pub use http::{Body, BoxError};
pub use kubelets::PodCall;
pub use server::{ApiServer, Serving};
