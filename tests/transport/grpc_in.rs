//! OTLP/gRPC in.

use std::time::Duration;

use bytes::Bytes;
use stallspan::model::{Code, Refusal, Signal};
use tokio::time::Instant;

use crate::peers;
use crate::rig::{GRPC_LIMIT, Hop, Recorder, SetOnDrop, TRACES, bytes, call, framed, gzip, http2, until, zstd};

#[tokio::test]
async fn every_service_gets_the_message_and_the_answer_comes_back_byte_for_byte() {
    let recorder = Recorder::answering(|request| async move { Ok(Bytes::from(format!("answer to {}", request.signal.word()))) });
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http2(hop.grpc()).await;
    for (path, signal) in [
        (TRACES, Signal::Traces),
        ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Signal::Metrics),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Signal::Logs),
    ] {
        let reply = call(&mut client, path, &[], framed(false, b"request")).await;
        assert_eq!((reply.status, reply.code(), reply.header("content-type")), (200, "0", "application/grpc"));
        assert_eq!(reply.body, framed(false, format!("answer to {}", signal.word()).as_bytes()));
        let got = recorder.got.lock().unwrap().pop().unwrap();
        assert_eq!((got.signal, got.body), (signal, Bytes::from_static(b"request")));
        assert_eq!(got.peer.ip, Some("127.0.0.1".parse().unwrap()));
        assert!(got.peer.port.is_some());
    }
}

#[tokio::test]
async fn a_real_client_is_served_plain_and_compressed() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let client = peers::client(hop.grpc()).await;
    let request = peers::spans(50);
    client.clone().export(request.clone()).await.unwrap();
    for coding in [tonic::codec::CompressionEncoding::Gzip, tonic::codec::CompressionEncoding::Zstd] {
        let response = client.clone().send_compressed(coding).export(request.clone()).await.unwrap();
        assert!(response.into_inner().partial_success.is_none());
    }
    let expected = Bytes::from(prost::Message::encode_to_vec(&request));
    assert_eq!(recorder.bodies(), vec![expected; 3]);
}

#[tokio::test]
async fn an_empty_request_is_a_request() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let reply = call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"")).await;
    assert_eq!((reply.code(), recorder.bodies()), ("0", vec![Bytes::new()]));
}

#[tokio::test]
async fn the_size_limit_is_exact_and_the_connection_stays_usable() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http2(hop.grpc()).await;
    type Pack = fn(&[u8]) -> Bytes;
    let plain: Pack = Bytes::copy_from_slice;
    for _ in 0..3 {
        for (coding, pack) in [("identity", plain), ("gzip", gzip as Pack), ("zstd", zstd as Pack)] {
            for (length, code) in [(GRPC_LIMIT - 1, "0"), (GRPC_LIMIT, "0"), (GRPC_LIMIT + 1, "8"), (10 * GRPC_LIMIT, "8")] {
                let body = framed(coding != "identity", &pack(&bytes(length)));
                let reply = call(&mut client, TRACES, &[("grpc-encoding", coding)], body).await;
                assert_eq!(reply.code(), code, "{coding} {length}");
                assert_eq!(reply.header("grpc-status-details-bin"), "", "too large must not look retryable");
                let last = recorder.got.lock().unwrap().pop();
                assert_eq!(last.map(|request| request.body.len()), (code == "0").then_some(length), "{coding} {length}");
            }
        }
    }
    assert_eq!(hop.running.bytes_in_flight(), 0);
    assert_eq!(hop.counters.too_large.get(), 18);
}

#[tokio::test]
async fn what_is_announced_is_not_waited_for_nor_allocated() {
    let hop = Hop::start(Recorder::accepting()).await;
    let mut client = http2(hop.grpc()).await;
    let reply = call(&mut client, TRACES, &[], Bytes::from_static(b"\0\xff\xff\xff\xffx")).await;
    assert_eq!(reply.code(), "8");
    assert_eq!(call(&mut client, TRACES, &[], framed(false, b"good")).await.code(), "0");
}

#[tokio::test]
async fn calls_that_are_none_get_a_clean_status() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http2(hop.grpc()).await;
    let good = || framed(false, b"x");
    let two = || Bytes::from([good(), good()].concat());
    for (what, path, headers, body, code) in [
        ("unknown service", "/a.b.C/Export", &[][..], good(), "12"),
        ("unknown method", "/opentelemetry.proto.collector.trace.v1.TraceService/Import", &[], good(), "12"),
        ("no message", TRACES, &[], Bytes::new(), "12"),
        ("two messages", TRACES, &[], two(), "12"),
        ("cut prefix", TRACES, &[], Bytes::from_static(b"\0\0\0"), "3"),
        ("cut message", TRACES, &[], Bytes::from_static(b"\0\0\0\0\x05abc"), "3"),
        ("bad flag", TRACES, &[], Bytes::from_static(b"\x07\0\0\0\x01a"), "3"),
        ("unknown coding", TRACES, &[("grpc-encoding", "snappy")], framed(true, b"x"), "12"),
        ("compressed without coding", TRACES, &[], framed(true, b"x"), "3"),
        ("broken gzip", TRACES, &[("grpc-encoding", "gzip")], framed(true, b"no gzip"), "3"),
        ("bad timeout", TRACES, &[("grpc-timeout", "soon")], good(), "3"),
        ("JSON", TRACES, &[("content-type", "application/grpc+json")], good(), "3"),
    ] {
        let reply = call(&mut client, path, headers, body).await;
        assert_eq!((reply.status, reply.code()), (200, code), "{what}: {reply:?}");
        assert!(reply.headers.contains_key("grpc-message"), "{what} says why");
    }
    let reply = call(&mut client, TRACES, &[("content-type", "text/plain")], good()).await;
    assert_eq!(reply.status, 415);
    assert_eq!(recorder.count(), 0);
    let reply = call(&mut client, TRACES, &[("grpc-encoding", "snappy")], framed(true, b"x")).await;
    assert_eq!(reply.header("grpc-accept-encoding"), "identity,gzip,zstd");
    assert_eq!(call(&mut client, TRACES, &[("grpc-encoding", "gzip")], good()).await.code(), "0", "an uncompressed message is legal there");
    assert_eq!(call(&mut client, TRACES, &[("content-type", "application/grpc+proto")], good()).await.code(), "0");
}

#[tokio::test]
async fn a_message_in_many_small_pieces_is_put_together() {
    use http_body_util::BodyExt;
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let io = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(hop.grpc()).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let message = bytes(5000);
    let pieces: Vec<_> =
        framed(false, &message).chunks(3).map(|piece| Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(piece))).collect();
    let stream = tonic::codegen::tokio_stream::iter(pieces.into_iter().map(|piece| piece.map(hyper::body::Frame::data)));
    let request = http::Request::post(format!("http://test{TRACES}"))
        .header("content-type", "application/grpc")
        .body(http_body_util::StreamBody::new(stream))
        .unwrap();
    let response = send.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(response.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(recorder.bodies(), vec![message]);
}

#[tokio::test]
async fn the_handlers_deadline_is_the_senders_or_max_wait_whichever_is_earlier() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let mut client = http2(hop.grpc()).await;
    for (timeout, least, most) in [("1S", 0.9, 1.0), ("100m", 0.09, 0.1), ("1H", 4.9, 5.0), ("", 4.9, 5.0)] {
        let headers = [("grpc-timeout", timeout)];
        // One that a starved machine brought too late is not handed over; another is sent.
        let (before, took, request) = loop {
            let before = Instant::now();
            call(&mut client, TRACES, if timeout.is_empty() { &[] } else { &headers }, framed(false, b"x")).await;
            if let Some(request) = recorder.got.lock().unwrap().pop() {
                break (before, before.elapsed().as_secs_f64(), request);
            }
        };
        let deadline = request.deadline.duration_since(before).as_secs_f64();
        assert!(deadline >= least - 0.01 && deadline <= most + took, "{timeout}: {deadline}");
    }
}

#[tokio::test]
async fn past_its_deadline_a_request_is_not_handed_over() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let reply = call(&mut http2(hop.grpc()).await, TRACES, &[("grpc-timeout", "0n")], framed(false, b"x")).await;
    assert_eq!((reply.code(), recorder.count()), ("4", 0));
}

#[tokio::test]
async fn a_handler_that_outstays_its_deadline_is_cut_off() {
    let hop = Hop::start(Recorder::answering(|_| std::future::pending())).await;
    let reply = call(&mut http2(hop.grpc()).await, TRACES, &[("grpc-timeout", "50m")], framed(false, b"x")).await;
    assert_eq!(reply.code(), "4");
    assert_eq!(hop.counters.timed_out.get(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_message_and_hint() {
    let refusal = Refusal::new(Code::Unavailable, "später, 100 %").retry_after(Duration::from_millis(1500));
    let hop = Hop::start(Recorder::answering(move |_| std::future::ready(Err(refusal.clone())))).await;
    let reply = call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"x")).await;
    assert_eq!((reply.code(), reply.header("grpc-message")), ("14", "sp%C3%A4ter, 100 %25"));
    let details = stallspan::otlp::status::from_details_header(reply.header("grpc-status-details-bin").as_bytes()).unwrap();
    assert_eq!(details.retry_delay, Some(Duration::from_millis(1500)));
    let status = peers::client(hop.grpc()).await.export(peers::spans(1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "später, 100 %"));
}

#[tokio::test]
async fn a_sender_that_goes_away_ends_the_handlers_work() {
    for whole_connection in [false, true] {
        let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = std::sync::Arc::clone(&ended);
        let recorder = Recorder::answering(move |_| {
            let guard = SetOnDrop(std::sync::Arc::clone(&flag));
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        });
        let hop = Hop::start(recorder.clone()).await;
        let mut client = http2(hop.grpc()).await;
        let mut other = client.clone();
        let calling = tokio::spawn(async move { call(&mut client, TRACES, &[], framed(false, b"x")).await });
        until("the handler runs", || recorder.count() == 1).await;
        assert!(hop.running.bytes_in_flight() > 0);
        if whole_connection {
            drop(other);
            calling.abort();
        } else {
            calling.abort();
            assert_eq!(call(&mut other, "/a.b.C/D", &[], framed(false, b"x")).await.code(), "12", "the connection lives on");
        }
        until("the handler's future is dropped", || ended.load(std::sync::atomic::Ordering::SeqCst)).await;
        until("its bytes are given back", || hop.running.bytes_in_flight() == 0).await;
    }
}

#[tokio::test]
async fn any_number_of_refusals_leaves_the_connection_usable() {
    let hop = Hop::start(Recorder::accepting()).await;
    let mut client = http2(hop.grpc()).await;
    for _ in 0..300 {
        assert_eq!(call(&mut client, TRACES, &[], framed(false, &bytes(GRPC_LIMIT + 1))).await.code(), "8");
    }
    assert_eq!(call(&mut client, TRACES, &[], framed(false, b"x")).await.code(), "0");
    assert_eq!(hop.counters.connections_accepted.get(), 1);
}

#[tokio::test]
async fn a_real_client_with_too_large_a_message_learns_so() {
    let hop = Hop::start(Recorder::accepting()).await;
    let client = peers::client(hop.grpc()).await;
    for _ in 0..3 {
        let status = client.clone().export(peers::spans(60_000)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    }
    client.clone().export(peers::spans(1)).await.unwrap();
    assert_eq!(hop.counters.connections_accepted.get(), 1);
}
