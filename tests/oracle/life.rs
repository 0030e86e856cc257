//! One life of the agent, from its start to its end in the middle of work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use crate::agent::{Agent, PATIENCE, Spans};
use crate::ledger::Ledger;
use crate::senders::{Door, Doors};

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM: exit code 0.
    Term,
}

pub struct Life {
    agent: Agent,
    door: Arc<Door>,
    reading: JoinHandle<()>,
}

fn configuration(downstream: SocketAddr, grpc: bool) -> String {
    let exporter = if grpc { "otlp_grpc" } else { "otlp_http" };
    format!(
        "\
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: \"127.0.0.1:0\" }}, http: {{ endpoint: \"127.0.0.1:0\" }} }}, max_wait: 2s }} }}
containers: {{ containerd: {{ enabled: false }} }}
exporters:
  {exporter}:
    endpoint: \"http://{downstream}\"
    timeout: 500ms
    retry_on_failure: {{ initial_interval: 20ms, max_interval: 100ms }}
service: {{ pipelines: {{ traces: {{ exporters: [{exporter}] }} }}, shutdown_timeout: 300ms }}
extensions: {{ health_check: {{ endpoint: \"127.0.0.1:0\" }} }}
"
    )
}

impl Life {
    pub async fn start(downstream: SocketAddr, grpc: bool, door: Arc<Door>, ledger: Ledger) -> Self {
        let agent = Agent::start(&configuration(downstream, grpc)).await;
        door.send_replace(Some(Doors { grpc: agent.grpc, http: agent.http }));
        let reading = tokio::spawn(read_metrics(agent.health, ledger));
        Self { agent, door, reading }
    }

    pub async fn end(mut self, how: End) {
        let signal = if how == End::Kill { Signal::KILL } else { Signal::TERM };
        kill_process(Pid::from_raw(self.agent.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.agent.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.agent.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.door.send_replace(None);
        assert_eq!(status.code(), if how == End::Kill { None } else { Some(0) }, "{:#?}", self.agent.log.lock().unwrap());
        // It fails where a page was wrong.
        self.reading.abort();
        if let Err(why) = (&mut self.reading).await {
            assert!(why.is_cancelled(), "{why}");
        }
    }
}

/// Reads `/metrics` over and over: every span received was forwarded, refused or failed, and no counter goes back.
async fn read_metrics(health: SocketAddr, ledger: Ledger) {
    let mut before = [0.0; 4];
    while let Some(Spans { received, forwarded, refused, failed }) = Spans::read(health).await {
        let now = [received, forwarded, refused, failed];
        assert!((received - forwarded - refused - failed).abs() < 0.5, "received is not the sum of what became of it: {now:?}");
        assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "a counter went back: {before:?} {now:?}");
        before = now;
        ledger.page();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
