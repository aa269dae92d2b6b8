// Makes two spans below the TRACEPARENT it is given, and exports them as the environment says.
"use strict";

const { context, propagation, trace, ROOT_CONTEXT, SpanKind, SpanStatusCode } = require("@opentelemetry/api");
const { BatchSpanProcessor, NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");
const { OTLPTraceExporter } = require(process.env.EXPORTER);
const { defaultResource, envDetector, detectResources } = require("@opentelemetry/resources");

const provider = new NodeTracerProvider({
  resource: defaultResource().merge(detectResources({ detectors: [envDetector] })),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
});
provider.register();

const tracer = trace.getTracer("stock", "1.0");
const parent = propagation.extract(ROOT_CONTEXT, { traceparent: process.env.TRACEPARENT });
context.with(parent, () => {
  tracer.startActiveSpan("reserve", { kind: SpanKind.SERVER }, (span) => {
    span.setAttribute("order.id", "ORD1");
    tracer.startActiveSpan("UPDATE stock", { kind: SpanKind.CLIENT }, (query) => {
      query.recordException(new Error("deadlock"));
      query.setStatus({ code: SpanStatusCode.ERROR, message: "deadlock" });
      query.end();
    });
    span.end();
  });
});
provider.shutdown();
