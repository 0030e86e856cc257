//! Proxies of the agent's environment.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, recent};
use crate::downstream::{Downstream, until};
use crate::sender::{Grpc, TRACES};

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_goes_through_the_proxy_of_its_environment_and_tells_no_password() {
    let downstream = Downstream::accepting().await;
    let (listener, target) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), downstream.address);
    let url = format!("http://me:s3cret@{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await?);
                }
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut near, &mut TcpStream::connect(target).await?).await
            });
        }
    });
    // Nobody can resolve this name.
    let configuration = to_grpc_quietly(target).replace(&target.to_string(), "collector.invalid:4317");
    let level = ["--set", "service.telemetry.logs.level=trace"];
    let agent = Agent::start_in(&configuration, &level, &[("HTTPS_PROXY", &url), ("NO_PROXY", "other.example")]);
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 0);
    assert_eq!(downstream.of("traces").len(), 1);
    let told = |text: &str| agent.log().iter().any(|line| line.contains(text));
    until("it tells so", || told("through a proxy").then_some(())).await;
    assert!(told("(HTTPS_PROXY)") && !told("s3cret") && !told("czNjcmV0"), "{:#?}", agent.log());
}
