// A small OpenTelemetry collector for tests: the collector's own OTLP receiver (gRPC on 4317, HTTP on 4318), and an exporter
// that writes what came as one line of OTLP JSON each, to standard output.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	metric "go.opentelemetry.io/otel/metric/noop"
	trace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "collector:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	factory := otlpreceiver.NewFactory()
	settings := receiver.Settings{
		ID: component.NewID(factory.Type()),
		TelemetrySettings: component.TelemetrySettings{
			Logger:         logger,
			TracerProvider: trace.NewTracerProvider(),
			MeterProvider:  metric.NewMeterProvider(),
			Resource:       pcommon.NewResource(),
		},
	}
	config := factory.CreateDefaultConfig().(*otlpreceiver.Config)
	// Both protocols, on all addresses: the default is localhost.
	grpc, http := *config.GRPC.GetOrInsertDefault(), *config.HTTP.GetOrInsertDefault()
	grpc.NetAddr.Endpoint = "0.0.0.0:4317"
	http.ServerConfig.NetAddr.Endpoint = "0.0.0.0:4318"
	config.GRPC, config.HTTP = configoptional.Some(grpc), configoptional.Some(http)

	out := &lines{}
	traces, err := consumer.NewTraces(func(_ context.Context, some ptrace.Traces) error {
		return out.write((&ptrace.JSONMarshaler{}).MarshalTraces(some))
	})
	if err != nil {
		return err
	}
	logs, err := consumer.NewLogs(func(_ context.Context, some plog.Logs) error {
		return out.write((&plog.JSONMarshaler{}).MarshalLogs(some))
	})
	if err != nil {
		return err
	}
	metrics, err := consumer.NewMetrics(func(_ context.Context, some pmetric.Metrics) error {
		return out.write((&pmetric.JSONMarshaler{}).MarshalMetrics(some))
	})
	if err != nil {
		return err
	}
	// The three share one receiver; starting any of them starts it, once.
	ofTraces, err := factory.CreateTraces(ctx, settings, config, traces)
	if err != nil {
		return err
	}
	ofLogs, err := factory.CreateLogs(ctx, settings, config, logs)
	if err != nil {
		return err
	}
	ofMetrics, err := factory.CreateMetrics(ctx, settings, config, metrics)
	if err != nil {
		return err
	}
	for _, part := range []component.Component{ofTraces, ofLogs, ofMetrics} {
		if err := part.Start(ctx, host{}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ofTraces.Shutdown(context.Background())
}

// host has no extensions.
type host struct{}

func (host) GetExtensions() map[component.ID]component.Component { return nil }

// lines writes whole lines.
type lines struct{ alone sync.Mutex }

func (l *lines) write(line []byte, err error) error {
	if err != nil {
		return err
	}
	l.alone.Lock()
	defer l.alone.Unlock()
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}
