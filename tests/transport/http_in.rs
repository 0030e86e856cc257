//! OTLP/HTTP in.

use std::time::Duration;

use bytes::Bytes;
use stallspan::model::{Code, Refusal, Signal};
use stallspan::otlp::status::RpcStatus;

use crate::rig::{HTTP_LIMIT, Hop, PROTOBUF, Recorder, bytes, gzip, http1, http2, post, zstd};

#[tokio::test]
async fn every_path_gets_the_body_and_the_answer_comes_back_byte_for_byte() {
    let recorder = Recorder::answering(|request| async move { Ok(Bytes::from(format!("answer to {}", request.signal.word()))) });
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http1(hop.http()).await;
    for (path, signal) in [("/v1/traces", Signal::Traces), ("/v1/metrics", Signal::Metrics), ("/v1/logs", Signal::Logs)] {
        let reply = post(&mut client, "POST", path, &[PROTOBUF], Bytes::from_static(b"request")).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-protobuf"));
        assert_eq!(reply.body, format!("answer to {}", signal.word()));
        let got = recorder.got.lock().unwrap().pop().unwrap();
        assert_eq!((got.signal, got.body), (signal, Bytes::from_static(b"request")));
    }
    assert_eq!(hop.counters.connections_accepted.get(), 1, "the connection is kept alive");
}

#[tokio::test]
async fn json_comes_in_as_protobuf_and_the_answer_goes_out_as_json() {
    let recorder = Recorder::answering(|_| async { Ok(Bytes::from_static(b"\x0a\x06\x08\x03\x12\x02no")) });
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http1(hop.http()).await;
    let body = br#"{"resource_spans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0B0C0d0e0f10","name":"x","kind":2}]}]}],"unknown":1}"#;
    let span = [&b"\x0a\x10"[..], &(1..=16).collect::<Vec<u8>>(), b"\x2a\x01x\x30\x02"].concat();
    for (coding, body) in [("identity", Bytes::from_static(body)), ("gzip", gzip(body)), ("zstd", zstd(body))] {
        let headers = [("content-type", "application/json; charset=utf-8"), ("content-encoding", coding)];
        let reply = post(&mut client, "POST", "/v1/traces", &headers, body).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
        assert_eq!(reply.body, r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#);
        let got = recorder.got.lock().unwrap().pop().unwrap().body;
        assert!(got.ends_with(&span), "{got:?}");
    }
    for bad in ["", "{", "[]", "{\"resourceSpans\":7}", &"[".repeat(100_000), &"{\"resourceSpans\":[".repeat(10_000)] {
        let reply =
            post(&mut client, "POST", "/v1/traces", &[("content-type", "application/json")], Bytes::copy_from_slice(bad.as_bytes())).await;
        assert_eq!(reply.status, 400, "{:.50}", bad);
        assert!(RpcStatus::from_json(&reply.body).unwrap().message.starts_with("not OTLP/JSON"), "{:?}", reply.body);
    }
    assert_eq!(hop.running.bytes_in_flight(), 0);
}

#[tokio::test]
async fn http2_without_tls_is_served_on_the_same_port() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http2(hop.http()).await;
    let request = http::Request::post("http://test/v1/traces").header("content-type", "application/x-protobuf");
    let response = client.send_request(request.body(http_body_util::Full::new(Bytes::from_static(b"body"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(recorder.bodies(), ["body"]);
}

#[tokio::test]
async fn the_size_limit_is_exact_before_and_after_inflation() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    type Pack = fn(&[u8]) -> Bytes;
    let plain: Pack = Bytes::copy_from_slice;
    for (coding, pack) in [("identity", plain), ("gzip", gzip as Pack), ("zstd", zstd as Pack)] {
        for (length, status) in [(HTTP_LIMIT - 1, 200), (HTTP_LIMIT, 200), (HTTP_LIMIT + 1, 413), (10 * HTTP_LIMIT, 413)] {
            let mut client = http1(hop.http()).await;
            let headers = [PROTOBUF, ("content-encoding", coding)];
            let reply = post(&mut client, "POST", "/v1/traces", &headers, pack(&bytes(length))).await;
            assert_eq!((reply.status, reply.header("retry-after")), (status, ""), "{coding} {length}");
            let last = recorder.got.lock().unwrap().pop();
            assert_eq!(last.map(|request| request.body.len()), (status == 200).then_some(length), "{coding} {length}");
        }
    }
    assert_eq!(hop.running.bytes_in_flight(), 0);
}

#[tokio::test]
async fn what_is_no_otlp_request_gets_its_status_in_the_senders_encoding() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let json = ("content-type", "application/json");
    for (what, method, path, headers, body, status) in [
        ("unknown path", "POST", "/v1/profiles", &[PROTOBUF][..], "x", 404),
        ("unknown path, JSON", "POST", "/nowhere", &[json], "{}", 404),
        ("GET", "GET", "/v1/traces", &[PROTOBUF], "", 405),
        ("PUT, JSON", "PUT", "/v1/logs", &[json], "{}", 405),
        ("another type", "POST", "/v1/traces", &[("content-type", "text/plain")], "x", 415),
        ("no type", "POST", "/v1/traces", &[], "x", 415),
        ("gRPC", "POST", "/v1/traces", &[("content-type", "application/grpc")], "x", 415),
        ("unknown coding", "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "br")], "x", 415),
        ("deflate", "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "deflate")], "x", 415),
        ("two codings", "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "gzip, gzip")], "x", 415),
        ("broken gzip", "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], "no gzip", 400),
    ] {
        let mut client = http1(hop.http()).await;
        let reply = post(&mut client, method, path, headers, Bytes::from_static(body.as_bytes())).await;
        assert_eq!(reply.status, status, "{what}");
        let told = if headers.contains(&json) {
            assert_eq!(reply.header("content-type"), "application/json", "{what}");
            RpcStatus::from_json(&reply.body)
        } else {
            assert_eq!(reply.header("content-type"), "application/x-protobuf", "{what}");
            RpcStatus::from_protobuf(&reply.body)
        };
        assert!(!told.expect(what).message.is_empty(), "{what}");
        assert_eq!(reply.header("allow"), if status == 405 { "POST" } else { "" }, "{what}");
    }
    assert_eq!(recorder.count(), 0);
}

#[tokio::test]
async fn a_refusal_of_the_handler_is_told_as_the_table_says() {
    let hinted = |code| Refusal::new(code, "no").retry_after(Duration::from_millis(1500));
    for (refusal, status, retry_after) in [
        (Refusal::new(Code::InvalidArgument, "no"), 400, ""),
        (Refusal::new(Code::Unauthenticated, "no"), 401, ""),
        (Refusal::new(Code::PermissionDenied, "no"), 403, ""),
        (Refusal::new(Code::Unimplemented, "no"), 404, ""),
        (Refusal::new(Code::ResourceExhausted, "no"), 413, ""),
        (hinted(Code::ResourceExhausted), 429, "2"),
        (Refusal::new(Code::Unavailable, "no"), 503, ""),
        (hinted(Code::Unavailable), 503, "2"),
        (Refusal::new(Code::DeadlineExceeded, "no"), 504, ""),
        (Refusal::new(Code::Internal, "no"), 500, ""),
    ] {
        let told = refusal.clone();
        let hop = Hop::start(Recorder::answering(move |_| std::future::ready(Err(told.clone())))).await;
        let reply = post(&mut http1(hop.http()).await, "POST", "/v1/traces", &[PROTOBUF], Bytes::new()).await;
        assert_eq!((reply.status, reply.header("retry-after")), (status, retry_after), "{refusal:?}");
        assert_eq!(RpcStatus::from_protobuf(&reply.body).unwrap().message, "no");
    }
}
