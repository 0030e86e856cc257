// Sends spans with the OpenTelemetry SDK for Node.js: send.mjs grpc|http/protobuf|http/json ENDPOINT COUNT SERVICE.
import { CompressionAlgorithm } from '@opentelemetry/otlp-exporter-base';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

const [protocol, endpoint, count, service] = [process.argv[2], process.argv[3], Number(process.argv[4]), process.argv[5]];

const modules = {
  'grpc': '@opentelemetry/exporter-trace-otlp-grpc',
  'http/protobuf': '@opentelemetry/exporter-trace-otlp-proto',
  'http/json': '@opentelemetry/exporter-trace-otlp-http',
};
const { OTLPTraceExporter } = await import(modules[protocol]);
const url = protocol === 'grpc' ? endpoint : `${endpoint}/v1/traces`;
const exporter = new OTLPTraceExporter({ url, timeoutMillis: 60000, compression: CompressionAlgorithm.GZIP });

// Notes what the exporter was told.
const told = { accepted: 0, refused: 0, why: '' };
const noting = {
  export(spans, done) {
    exporter.export(spans, (result) => {
      if (result.code === 0) told.accepted += spans.length;
      else [told.refused, told.why] = [told.refused + spans.length, result.error];
      done(result);
    });
  },
  shutdown: () => exporter.shutdown(),
  forceFlush: () => exporter.forceFlush(),
};

const processor = new BatchSpanProcessor(noting, { maxQueueSize: count, maxExportBatchSize: 100, exportTimeoutMillis: 60000 });
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ 'service.name': service }),
  spanProcessors: [processor],
});
const tracer = provider.getTracer('clients');
for (let number = 0; number < count; number++) {
  const span = tracer.startSpan(`span ${number}`, { attributes: { number, 'text': 'ä'.repeat(20), 'half': 0.5 } });
  span.addEvent('event');
  span.end();
}
await provider.forceFlush();
await provider.shutdown();
if (told.accepted !== count || told.refused !== 0) {
  console.error(`${told.accepted} accepted, ${told.refused} refused, of ${count}: ${told.why}`);
  process.exit(1);
}
