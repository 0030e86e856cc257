"""Sends spans with the OpenTelemetry SDK for Python: send.py grpc|http/protobuf ENDPOINT COUNT SERVICE."""

import sys

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

protocol, endpoint, count, service = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def exporter_of(protocol):
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import Compression, OTLPSpanExporter

        return OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=60, compression=Compression.Gzip)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import Compression, OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint + "/v1/traces", timeout=60, compression=Compression.Gzip)


class Told(SpanExporter):
    """Notes what the exporter was told."""

    def __init__(self, exporter):
        self.exporter, self.accepted, self.refused = exporter, 0, 0

    def export(self, spans):
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.accepted += len(spans)
        else:
            self.refused += len(spans)
        return result

    def shutdown(self):
        self.exporter.shutdown()

    def force_flush(self, timeout_millis=30000):
        return True


told = Told(exporter_of(protocol))
provider = TracerProvider(resource=Resource.create({"service.name": service}))
provider.add_span_processor(BatchSpanProcessor(told, max_queue_size=count, max_export_batch_size=100))
tracer = provider.get_tracer("clients")
for number in range(count):
    with tracer.start_as_current_span(f"span {number}", attributes={"number": number, "text": "ä" * 20}) as span:
        span.add_event("event", {"at": 0.5})
provider.shutdown()
if (told.accepted, told.refused) != (count, 0):
    sys.exit(f"{told.accepted} accepted, {told.refused} refused, of {count}")
