//! `/livez`, `/readyz`, `/metrics`.

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, recent};
use crate::downstream::Downstream;
use crate::sender::{http, post};

#[tokio::test(flavor = "multi_thread")]
async fn pages_tell_that_it_lives_is_ready_and_what_it_counted() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    for page in ["/livez", "/readyz"] {
        assert_eq!(http(agent.health(), "GET", page, &[], "").await.status, 200, "{page}");
    }
    assert_eq!(http(agent.health(), "GET", "/nothing", &[], "").await.status, 404);
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent(); 5])).await.status, 200);
    let page = http(agent.health(), "GET", "/metrics", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    let value = |line: &str| text.lines().find_map(|found| found.strip_prefix(line)).map(str::trim).map(str::to_owned);
    assert_eq!(value("stallspan_agent_spans_total{stallspan_outcome=\"received\"}").as_deref(), Some("5"), "{text}");
    for line in text.lines() {
        let comment = line.starts_with("# HELP ") || line.starts_with("# TYPE ");
        let sample = line.rsplit_once(' ').is_some_and(|(name, value)| name.starts_with("stallspan_") && value.parse::<f64>().is_ok());
        assert!(comment || sample || line.is_empty(), "no line of the text format: {line}");
    }
}
