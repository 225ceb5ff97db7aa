//! A real Kubernetes to test against: etcd, the API server, the controllers and the scheduler, one node, and behind every
//! pod a real process with an address of its own.

mod colours;
mod container;
mod faults;
mod gitops;
mod image;
mod kinds;
mod kubelet;
mod lease;
mod leaving;
mod manifests;
mod namespace;
mod others;
mod pair;
mod pki;
mod plane;
mod preflight;
mod proxy;
mod race;
mod readiness;
mod record;
mod recorder;
mod replicas;
mod rights;
mod rolling;
mod scale;
mod selected;
mod services;
mod settings;
mod sidecar;
mod speed;
mod stage;
mod strategies;
mod truth;
mod watch;
