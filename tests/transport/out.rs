//! Downstream refuses, hangs, dies and returns; what a sender is told, and what is tried again.

use std::time::Duration;

use bytes::Bytes;
use stallspan::config::meaning::{Exporter, OtlpExporter, Retry};
use stallspan::export::{Beside, Exporters, Spare};
use stallspan::model::{Answer, Code, Signal};
use stallspan::otlp::status::{RpcStatus, details_header};
use stallspan::runtime::Tasks;
use stallspan::runtime::budget::Room;
use tokio::time::Instant;

use crate::downstream::{Act, Downstream, exporters, otlp};
use crate::rig::{PATIENCE, until};

fn open(entries: Vec<(&str, Exporter)>) -> Exporters {
    Exporters::open(&exporters(entries), &Tasks::new()).unwrap()
}

fn grpc(downstream: &Downstream) -> Exporters {
    open(vec![("out", Exporter::OtlpGrpc(downstream.grpc_exporter()))])
}

fn http(downstream: &Downstream) -> Exporters {
    open(vec![("out", Exporter::OtlpHttp(downstream.http_exporter()))])
}

/// One attempt and no more.
fn once(config: OtlpExporter) -> OtlpExporter {
    OtlpExporter { retry: Retry { enabled: false, ..config.retry }, ..config }
}

async fn send(exporters: &Exporters, within: Duration) -> Answer {
    let deadline = Instant::now() + within;
    exporters.send(&["out".to_owned()], Signal::Traces, Bytes::from_static(b"request"), deadline).await
}

fn refused(code: u8) -> Act {
    Act::Grpc(vec![("grpc-status", code.to_string()), ("grpc-message", "n%C3%B6".to_owned())])
}

#[tokio::test]
async fn every_grpc_code_is_tried_again_exactly_when_the_specification_says() {
    for code in 1..=16_u8 {
        let downstream = Downstream::start(move |number| if number == 0 { refused(code) } else { Act::Accept(Bytes::new()) }).await;
        let answer = send(&grpc(&downstream), PATIENCE).await;
        let again = [1, 4, 10, 11, 14, 15].contains(&code);
        assert_eq!((answer.is_ok(), downstream.count()), (again, if again { 2 } else { 1 }), "code {code}");
        if let Err(refusal) = answer {
            assert_eq!((refusal.code as u8, refusal.message.as_str(), refusal.retry_after), (code, "nö", None));
        }
    }
}

#[tokio::test]
async fn resource_exhausted_with_a_hint_waits_as_long_as_it_says() {
    let hint = stallspan::model::Refusal::new(Code::ResourceExhausted, "full").retry_after(Duration::from_millis(400));
    let details = details_header(&hint).unwrap();
    let act = Act::Grpc(vec![("grpc-status", "8".to_owned()), ("grpc-status-details-bin", details)]);
    let downstream = Downstream::start(move |number| if number == 0 { act.clone() } else { Act::Accept(Bytes::new()) }).await;
    let start = Instant::now();
    send(&grpc(&downstream), PATIENCE).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn every_http_status_means_what_the_table_says() {
    for (status, code, again) in [
        (400, Code::InvalidArgument, false),
        (401, Code::Unauthenticated, false),
        (403, Code::PermissionDenied, false),
        (404, Code::Unimplemented, false),
        (413, Code::ResourceExhausted, false),
        (429, Code::Unavailable, true),
        (502, Code::Unavailable, true),
        (503, Code::Unavailable, true),
        (504, Code::Unavailable, true),
        (302, Code::Internal, false),
        (405, Code::Internal, false),
        (500, Code::Internal, false),
        (501, Code::Internal, false),
    ] {
        let refuse = move |number| if number < 2 { Act::Http(status, vec![], Bytes::new()) } else { Act::Accept(Bytes::new()) };
        let downstream = Downstream::start(refuse).await;
        let refusal = send(&open(vec![("out", Exporter::OtlpHttp(once(downstream.http_exporter())))]), PATIENCE).await.unwrap_err();
        assert_eq!((refusal.code, downstream.count()), (code, 1), "{status}");
        let answer = send(&http(&downstream), PATIENCE).await;
        assert_eq!((answer.is_ok(), downstream.count()), (again, if again { 3 } else { 2 }), "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_and_passed_on() {
    let downstream = Downstream::start(|number| match number {
        0 => Act::Http(503, vec![("retry-after", "1".to_owned())], Bytes::new()),
        _ => Act::Accept(Bytes::new()),
    })
    .await;
    let start = Instant::now();
    send(&http(&downstream), PATIENCE).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let downstream = Downstream::start(|_| Act::Http(429, vec![("retry-after", "60".to_owned())], Bytes::new())).await;
    let start = Instant::now();
    let refusal = send(&http(&downstream), PATIENCE).await.unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after), (Code::Unavailable, Some(Duration::from_secs(60))));
    assert!(start.elapsed() < Duration::from_secs(50), "no use waiting");
    assert_eq!(downstream.count(), 1);
}

#[tokio::test]
async fn a_status_in_the_body_is_read_and_a_success_of_another_kind_is_empty() {
    let told = RpcStatus { code: 3, message: "bad span".to_owned(), retry_delay: None };
    let body = Bytes::from(told.to_protobuf());
    let downstream =
        Downstream::start(move |_| Act::Http(400, vec![("content-type", "application/x-protobuf".to_owned())], body.clone())).await;
    assert!(send(&http(&downstream), PATIENCE).await.unwrap_err().message.ends_with("bad span"));
    let downstream =
        Downstream::start(|_| Act::Http(202, vec![("content-type", "text/plain".to_owned())], Bytes::from_static(b"thanks"))).await;
    assert_eq!(send(&http(&downstream), PATIENCE).await, Ok(Bytes::new()));
}

#[tokio::test]
async fn one_that_never_answers_is_tried_again_and_told_before_the_deadline() {
    type Make = fn(OtlpExporter) -> Exporter;
    for make in [Exporter::OtlpGrpc as Make, Exporter::OtlpHttp] {
        // How exactly the deadline is kept is tested on a paused clock, in `export::retry`.
        let downstream = Downstream::start(|_| Act::Hang).await;
        let impatient = OtlpExporter { timeout: Duration::from_secs(2), ..downstream.grpc_exporter() };
        let start = Instant::now();
        let refusal = send(&open(vec![("out", make(impatient))]), Duration::from_secs(9)).await.unwrap_err();
        assert!(stallspan::otlp::status::retryable(&refusal), "{refusal:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        let got = downstream.got.lock().unwrap();
        assert!((2..=5).contains(&got.len()), "{} tries of 2 s in 9 s", got.len());
        assert_ne!(got[0].connection, got[1].connection, "a silent connection is not trusted again");
    }
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    for make in [grpc as fn(&Downstream) -> Exporters, http] {
        let downstream = Downstream::start(|number| if number % 2 == 0 { Act::Drop } else { Act::Accept(Bytes::new()) }).await;
        let exporters = make(&downstream);
        for _ in 0..3 {
            send(&exporters, PATIENCE).await.unwrap();
        }
        assert_eq!(downstream.accepted().len(), 3);
    }
}

#[tokio::test]
async fn a_connection_is_kept_between_requests() {
    for make in [grpc as fn(&Downstream) -> Exporters, http] {
        let downstream = Downstream::accepting().await;
        let exporters = make(&downstream);
        for _ in 0..5 {
            send(&exporters, PATIENCE).await.unwrap();
        }
        assert!(downstream.got.lock().unwrap().iter().all(|got| got.connection == 0));
    }
}

#[tokio::test]
async fn requests_wait_for_their_answers_side_by_side() {
    for (make, connections) in [(grpc as fn(&Downstream) -> Exporters, 1), (http, 20)] {
        // None is answered before all have come.
        let downstream = Downstream::start(|number| if number < 20 { Act::Hang } else { Act::Accept(Bytes::new()) }).await;
        let exporters = make(&downstream);
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let exporters = exporters.clone();
            sending.spawn(async move { send(&exporters, PATIENCE).await });
        }
        until("all are there", || downstream.count() == 20).await;
        let used: std::collections::HashSet<_> = downstream.got.lock().unwrap().iter().map(|got| got.connection).collect();
        assert_eq!(used.len(), connections);
    }
}

#[tokio::test]
async fn a_warning_beside_success_is_passed_on_and_not_tried_again() {
    // partial_success with rejected_spans 0 and a message; and one that rejects two.
    for message in [&b"\x0a\x06\x12\x04slow"[..], b"\x0a\x07\x08\x02\x12\x03old"] {
        for make in [grpc as fn(&Downstream) -> Exporters, http] {
            let downstream = Downstream::start(|_| Act::Accept(Bytes::copy_from_slice(message))).await;
            let deadline = Instant::now() + PATIENCE;
            let answer = make(&downstream).send(&["out".to_owned()], Signal::Traces, Bytes::new(), deadline).await;
            assert_eq!((answer, downstream.count()), (Ok(Bytes::from_static(message)), 1));
        }
    }
}

#[tokio::test]
async fn downstream_that_dies_and_returns_is_found_again() {
    for make in [grpc as fn(&Downstream) -> Exporters, http] {
        let downstream = Downstream::accepting().await;
        let exporters = make(&downstream);
        send(&exporters, PATIENCE).await.unwrap();
        downstream.die().await;
        let refusal = send(&exporters, Duration::from_secs(3)).await.unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable);
        assert!(refusal.message.contains(&downstream.address.to_string()), "names the address: {}", refusal.message);
        let waiting = tokio::spawn({
            let exporters = exporters.clone();
            async move { send(&exporters, PATIENCE).await }
        });
        downstream.rise().await;
        waiting.await.unwrap().unwrap();
        assert_eq!(downstream.accepted().len(), 2);
    }
}

#[tokio::test]
async fn a_restart_between_requests_is_not_noticed() {
    type Make = fn(OtlpExporter) -> Exporter;
    for make in [Exporter::OtlpGrpc as Make, Exporter::OtlpHttp] {
        let downstream = Downstream::accepting().await;
        let exporters = open(vec![("out", make(downstream.grpc_exporter()))]);
        for _ in 0..5 {
            assert_eq!(send(&exporters, PATIENCE).await, Ok(Bytes::new()));
            downstream.die().await;
            downstream.rise().await;
        }
        assert_eq!(downstream.count(), 5, "none came twice");
    }
}

#[tokio::test]
async fn one_that_was_away_for_a_while_has_the_next_request_within_35_s() {
    type Make = fn(OtlpExporter) -> Exporter;
    for make in [Exporter::OtlpGrpc as Make, Exporter::OtlpHttp] {
        let downstream = Downstream::accepting().await;
        let base = downstream.grpc_exporter();
        // As configured by default.
        let (initial_interval, max_interval) = (Duration::from_secs(5), Duration::from_secs(30));
        let retry = Retry { initial_interval, max_interval, ..base.retry };
        let exporters = open(vec![("out", make(OtlpExporter { retry, ..base }))]);
        downstream.die().await;
        for _ in 0..20 {
            send(&exporters, Duration::from_millis(100)).await.unwrap_err();
        }
        downstream.rise().await;
        send(&exporters, Duration::from_secs(35)).await.unwrap();
    }
}

#[tokio::test]
async fn retries_off_means_one_attempt() {
    let downstream = Downstream::start(|_| refused(14)).await;
    let refusal = send(&open(vec![("out", Exporter::OtlpGrpc(once(downstream.grpc_exporter())))]), PATIENCE).await.unwrap_err();
    assert_eq!((refusal.code, downstream.count()), (Code::Unavailable, 1));
}

#[tokio::test]
async fn a_sender_that_goes_away_ends_its_attempt() {
    for make in [grpc as fn(&Downstream) -> Exporters, http] {
        let downstream = Downstream::start(|_| Act::Unavailable).await;
        let exporters = make(&downstream);
        let sending = tokio::spawn(async move { send(&exporters, Duration::from_secs(60)).await });
        until("some attempts", || downstream.count() >= 1).await;
        sending.abort();
        let _ = sending.await;
        let then = downstream.count();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(downstream.count() <= then + 1, "no further attempt");
    }
}

#[tokio::test]
async fn all_must_accept_and_none_gets_twice_what_it_accepted() {
    let first = Downstream::start(|_| Act::Accept(Bytes::from_static(b"\x0a\x00"))).await;
    let second = Downstream::start(|number| if number < 3 { refused(14) } else { Act::Accept(Bytes::from_static(b"other")) }).await;
    let exporters = open(vec![("a", Exporter::OtlpGrpc(first.grpc_exporter())), ("b", Exporter::OtlpGrpc(second.grpc_exporter()))]);
    let both = ["a".to_owned(), "b".to_owned()];
    let deadline = Instant::now() + PATIENCE;
    let answer = exporters.send(&both, Signal::Logs, Bytes::from_static(b"request"), deadline).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"\x0a\x00")), "the first one's, byte for byte");
    assert_eq!((first.count(), second.count()), (1, 4));

    let third = Downstream::start(|_| refused(3)).await;
    let exporters = open(vec![("a", Exporter::OtlpGrpc(first.grpc_exporter())), ("b", Exporter::OtlpGrpc(third.grpc_exporter()))]);
    let answer = exporters.send(&both, Signal::Logs, Bytes::from_static(b"request"), deadline).await;
    assert_eq!(answer.unwrap_err().code, Code::InvalidArgument, "a failure of any fails the request");
}

#[tokio::test]
async fn addresses_and_headers_of_requests() {
    use stallspan::config::meaning::Compression;
    let downstream = Downstream::accepting().await;
    for (compression, coding) in [(Compression::Gzip, Some("gzip")), (Compression::Zstd, Some("zstd")), (Compression::None, None)] {
        let mut config = downstream.http_exporter();
        config.endpoint.push_str("/base/");
        config.metrics_endpoint = Some(format!("http://{}/own/metrics", downstream.address));
        config.logs_endpoint = Some(format!("http://{}/own/logs", downstream.address));
        config.headers.insert("Authorization".to_owned(), "Bearer x".to_owned());
        config.compression = compression;
        let exporters = open(vec![("out", Exporter::OtlpHttp(config))]);
        for (signal, path) in [(Signal::Traces, "/base/v1/traces"), (Signal::Metrics, "/own/metrics"), (Signal::Logs, "/own/logs")] {
            let deadline = Instant::now() + PATIENCE;
            exporters.send(&["out".to_owned()], signal, Bytes::from_static(b"request"), deadline).await.unwrap();
            let got = downstream.last();
            assert_eq!(got.path, path);
            assert_eq!(got.headers["authorization"], "Bearer x");
            assert_eq!(got.headers["content-type"], "application/x-protobuf");
            assert_eq!(got.headers.get("content-encoding").map(|coding| coding.to_str().unwrap()), coding);
            assert!(got.headers["user-agent"].to_str().unwrap().starts_with("OTel-OTLP-Exporter-Rust/"));
            let sent = match compression {
                Compression::Gzip => ungzip(&got.body),
                Compression::Zstd => zstd::decode_all(&*got.body).unwrap(),
                Compression::None => got.body.to_vec(),
            };
            assert_eq!(sent, b"request", "{compression:?}");
        }
    }
}

fn ungzip(body: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut sent).unwrap();
    sent
}

#[tokio::test]
async fn a_downstream_is_told_how_long_its_answer_is_waited_for() {
    let downstream = Downstream::accepting().await;
    let exporters = grpc(&downstream);
    for (wait, least) in [(Duration::from_secs(2), Duration::from_secs(1)), (Duration::from_secs(100), Duration::from_secs(4))] {
        exporters.send(&["out".to_owned()], Signal::Traces, Bytes::new(), Instant::now() + wait).await.unwrap();
        let got = downstream.last();
        assert_eq!(got.headers["te"], "trailers");
        let told = got.headers["grpc-timeout"].to_str().unwrap();
        let (number, unit) = told.split_at(told.len() - 1);
        let nanoseconds = match unit {
            "n" => 1,
            "u" => 1_000,
            "m" => 1_000_000,
            "S" => 1_000_000_000,
            other => panic!("{other} of {told}"),
        };
        let told = Duration::from_nanos(number.parse::<u64>().unwrap() * nanoseconds);
        // The sender's rest, or the exporter's own `timeout` where that is less.
        assert!(told >= least && told <= wait.min(otlp(String::new()).timeout), "{told:?} of {wait:?}");
    }
}

#[tokio::test]
async fn a_pipeline_without_exporters_is_unimplemented() {
    let deadline = Instant::now() + PATIENCE;
    let refusal = open(vec![]).send(&[], Signal::Logs, Bytes::new(), deadline).await.unwrap_err();
    assert_eq!(refusal.code, Code::Unimplemented);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let endless = Bytes::from(vec![0; 5 << 20]);
    let downstream = Downstream::start(move |_| Act::Accept(endless.clone())).await;
    for exporters in [grpc(&downstream), http(&downstream)] {
        let refusal = send(&exporters, PATIENCE).await.unwrap_err();
        assert_eq!(refusal.code, Code::Internal, "{refusal:?} after {} requests", downstream.count());
    }
    assert_eq!(downstream.count(), 2, "not worth another try");
}

#[tokio::test]
async fn what_speaks_no_grpc_is_told_by_its_status() {
    for (status, code) in [(404, Code::Unimplemented), (401, Code::Unauthenticated), (418, Code::Unknown)] {
        let downstream = Downstream::start(move |_| Act::Http(status, vec![], Bytes::from_static(b"hello"))).await;
        assert_eq!(send(&grpc(&downstream), PATIENCE).await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn probes_tell_where_or_why_not() {
    let downstream = Downstream::accepting().await;
    assert_eq!(grpc(&downstream).probe("out").await, Ok(downstream.address.to_string()));
    assert_eq!(http(&downstream).probe("out").await, Ok(downstream.address.to_string()));
    downstream.die().await;
    let why = grpc(&downstream).probe("out").await.unwrap_err();
    assert!(why.contains(&downstream.address.to_string()) && why.contains("refused"), "{why}");
    let unknown = open(vec![("out", Exporter::OtlpGrpc(otlp("no-such-host.invalid:4317".to_owned())))]);
    assert!(unknown.probe("out").await.unwrap_err().contains("no-such-host.invalid"));
    assert_eq!(downstream.count(), 0);
}

#[tokio::test]
async fn a_closing_downstream_loses_no_request_and_gets_none_twice() {
    // GOAWAY after every few requests, as servers with a maximum age of connections do.
    let downstream = Downstream::start(|_| Act::Accept(Bytes::new())).await;
    downstream.goodbye_every(5);
    let exporters = open(vec![("out", Exporter::OtlpGrpc(once(downstream.grpc_exporter())))]);
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..200 {
        let exporters = exporters.clone();
        sending.spawn(async move {
            let body = Bytes::from(format!("{number:03}"));
            exporters.send(&["out".to_owned()], Signal::Traces, body, Instant::now() + PATIENCE).await
        });
        if number % 4 == 0 {
            tokio::task::yield_now().await;
        }
    }
    while let Some(answer) = sending.join_next().await {
        answer.unwrap().unwrap();
    }
    let mut accepted = downstream.accepted();
    let all = accepted.len();
    accepted.sort();
    accepted.dedup();
    assert_eq!((all, accepted.len()), (200, 200));
}

#[tokio::test]
async fn what_was_acknowledged_was_accepted() {
    // Accepts, refuses, hangs and drops in turn, dies and returns meanwhile.
    let downstream = Downstream::start(|number| match number % 7 {
        1 => Act::Unavailable,
        3 => Act::Drop,
        _ => Act::Accept(Bytes::new()),
    })
    .await;
    for make in [grpc as fn(&Downstream) -> Exporters, http] {
        let exporters = make(&downstream);
        let mut sending = tokio::task::JoinSet::new();
        for number in 0..150 {
            let exporters = exporters.clone();
            sending.spawn(async move {
                tokio::time::sleep(Duration::from_millis(number * 5)).await;
                let body = Bytes::from(format!("{number:03}"));
                let answer = exporters.send(&["out".to_owned()], Signal::Traces, body.clone(), Instant::now() + PATIENCE).await;
                answer.map(|_| body)
            });
        }
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            downstream.die().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            downstream.rise().await;
        }
        let mut acknowledged = Vec::new();
        while let Some(sent) = sending.join_next().await {
            acknowledged.push(sent.unwrap().expect("accepted in the end: downstream is back"));
        }
        let accepted = downstream.accepted();
        let is_in = |body: &Bytes| accepted.iter().any(|accepted| accepted.ends_with(body));
        assert!(acknowledged.iter().all(is_in), "acknowledged and lost");
    }
}

#[tokio::test]
async fn what_enrichment_made_too_large_is_sent_as_it_came() {
    let script = |too_large: Act| move |number| if [1, 4, 5].contains(&number) { too_large.clone() } else { Act::Accept(Bytes::new()) };
    let over_grpc = Downstream::start(script(refused(8))).await;
    let over_http = Downstream::start(script(Act::Http(413, vec![], Bytes::new()))).await;
    for (exporters, downstream) in [(grpc(&over_grpc), &over_grpc), (http(&over_http), &over_http)] {
        let send = async |grown: &'static [u8], came: &'static [u8]| {
            let spare = Spare::new(Bytes::from_static(came));
            let (names, deadline) = (["out".to_owned()], Instant::now() + PATIENCE);
            let (grown, room) = (Bytes::from_static(grown), Room::default());
            let answer = exporters.send_within(&names, Signal::Traces, grown, deadline, Beside { room: &room, spare: Some(&spare) }).await;
            (answer.is_ok(), spare.taken(), downstream.count())
        };
        let small = send(b"a little grown", b"small").await;
        assert_eq!(small, (true, false, 1));
        assert_eq!(send(b"grown past the limit of downstream", b"as it came").await, (true, true, 3));
        // Known by now to be too large.
        assert_eq!(send(b"grown past the limit of downstream", b"as it came").await, (true, true, 4));
        assert_eq!(send(b"grown, and just above", b"larger than the limit as it came").await, (false, true, 6));
    }
}
