// Sends spans with the OpenTelemetry SDK for Go: send grpc|http/protobuf ENDPOINT COUNT SERVICE.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

const patience = time.Minute

// Notes what the exporter was told.
type told struct {
	trace.SpanExporter
	accepted atomic.Int64
}

func (t *told) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	if err := t.SpanExporter.ExportSpans(ctx, spans); err != nil {
		log.Fatal(err)
	}
	t.accepted.Add(int64(len(spans)))
	return nil
}

func exporterOf(ctx context.Context, protocol, endpoint string) (trace.SpanExporter, error) {
	if protocol == "grpc" {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint), otlptracegrpc.WithInsecure(),
			otlptracegrpc.WithTimeout(patience), otlptracegrpc.WithCompressor("gzip"))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint+"/v1/traces"), otlptracehttp.WithInsecure(),
		otlptracehttp.WithTimeout(patience), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
}

func main() {
	ctx := context.Background()
	protocol, endpoint, service := os.Args[1], os.Args[2], os.Args[4]
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	exporter, err := exporterOf(ctx, protocol, endpoint)
	if err != nil {
		log.Fatal(err)
	}
	told := &told{SpanExporter: exporter}
	provider := trace.NewTracerProvider(
		trace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
		trace.WithBatcher(told, trace.WithMaxQueueSize(count), trace.WithBlocking(), trace.WithMaxExportBatchSize(100), trace.WithExportTimeout(patience)))
	tracer := provider.Tracer("clients")
	for number := range count {
		_, span := tracer.Start(ctx, fmt.Sprintf("span %d", number))
		span.SetAttributes(attribute.Int("number", number), attribute.StringSlice("texts", []string{"ä", "b"}))
		span.AddEvent("event")
		span.End()
	}
	if err := provider.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	if accepted := told.accepted.Load(); accepted != int64(count) {
		log.Fatalf("%d accepted of %d", accepted, count)
	}
}
