import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.time.Duration;
import java.util.Collection;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Sends spans with the OpenTelemetry SDK for Java: Send.java grpc|http/protobuf ENDPOINT COUNT SERVICE. */
public class Send {
  static final Duration PATIENCE = Duration.ofMinutes(1);

  /** Notes what the exporter was told. */
  record Told(SpanExporter exporter, AtomicInteger accepted) implements SpanExporter {
    @Override
    public CompletableResultCode export(Collection<SpanData> spans) {
      CompletableResultCode result = exporter.export(spans);
      result.whenComplete(() -> accepted.addAndGet(result.isSuccess() ? spans.size() : 0));
      return result;
    }

    @Override
    public CompletableResultCode flush() {
      return exporter.flush();
    }

    @Override
    public CompletableResultCode shutdown() {
      return exporter.shutdown();
    }
  }

  static SpanExporter exporterOf(String protocol, String endpoint) {
    return protocol.equals("grpc")
        ? OtlpGrpcSpanExporter.builder().setEndpoint(endpoint).setTimeout(PATIENCE).setCompression("gzip").build()
        : OtlpHttpSpanExporter.builder().setEndpoint(endpoint + "/v1/traces").setTimeout(PATIENCE).setCompression("gzip").build();
  }

  public static void main(String[] arguments) {
    int count = Integer.parseInt(arguments[2]);
    Told told = new Told(exporterOf(arguments[0], arguments[1]), new AtomicInteger());
    SdkTracerProvider provider =
        SdkTracerProvider.builder()
            .setResource(Resource.create(Attributes.of(AttributeKey.stringKey("service.name"), arguments[3])))
            .addSpanProcessor(
                BatchSpanProcessor.builder(told).setMaxQueueSize(count).setMaxExportBatchSize(100).setExporterTimeout(PATIENCE).build())
            .build();
    Tracer tracer = provider.get("clients");
    for (int number = 0; number < count; number++) {
      var span = tracer.spanBuilder("span " + number).setAttribute("number", number).setAttribute("text", "ä".repeat(20)).startSpan();
      span.addEvent("event");
      span.end();
    }
    provider.forceFlush().join(60, TimeUnit.SECONDS);
    provider.shutdown().join(60, TimeUnit.SECONDS);
    if (told.accepted().get() != count) {
      System.err.println(told.accepted() + " accepted of " + count);
      System.exit(1);
    }
    // Threads of the transport's pool would keep it for a while.
    System.exit(0);
  }
}
