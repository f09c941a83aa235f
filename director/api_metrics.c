// SPDX-License-Identifier: Apache-2.0
// GET /metrics: Prometheus text exposition format 0.0.4. One table row a metric; each is one walk over all backends.
#include "director/api.h"

#include "shared/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t up(const struct backend *backend, const struct ipvs_dest *dest)
{
	(void)dest;
	return desired_status(backend) == STATUS_UP;
}

static uint64_t weight(const struct backend *backend, const struct ipvs_dest *dest)
{
	(void)dest;
	return desired_weight(backend);
}

// The kernel's 32-bit gauges and 64-bit counters of a destination.
#define READER(name, member)                                                              \
	static uint64_t name(const struct backend *backend, const struct ipvs_dest *dest) \
	{                                                                                 \
		(void)backend;                                                            \
		return dest->member;                                                      \
	}
READER(active, active)
READER(inactive, inactive)
READER(connections, stats.connections)
READER(in_packets, stats.in_packets)
READER(out_packets, stats.out_packets)
READER(bytes_in, stats.in_bytes)
READER(bytes_out, stats.out_bytes)

static const struct {
	const char *name, *type, *help;
	uint64_t (*read)(const struct backend *backend, const struct ipvs_dest *dest);
} metrics[] = {
	{ "brass_backend_up", "gauge", "1 when the backend may get connections", up },
	{ "brass_backend_weight", "gauge", "effective weight", weight },
	{ "brass_backend_active_connections", "gauge", "connections that IPVS takes for established", active },
	{ "brass_backend_inactive_connections", "gauge", "other connection entries", inactive },
	{ "brass_backend_connections_total", "counter", "connections scheduled", connections },
	{ "brass_backend_in_packets_total", "counter", "packets from clients", in_packets },
	{ "brass_backend_out_packets_total", "counter", "packets to clients (nat only)", out_packets },
	{ "brass_backend_in_bytes_total", "counter", "bytes from clients", bytes_in },
	{ "brass_backend_out_bytes_total", "counter", "bytes to clients (nat only)", bytes_out },
};

static void write_metric(FILE *out, struct api *api, size_t which)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metrics[which].name, metrics[which].help, metrics[which].name,
		metrics[which].type);
	for (const struct service *s = api->state->model.services; s; s = s->hh.next) {
		const struct ipvs_dest none = { 0 };
		const struct ipvs_dest *dests;
		struct ipvs_key key;
		size_t count = 0;

		desired_key(&s->options, &key);
		// one dump of a service serves all metrics of this answer
		reconcile_stats(api->state->reconcile, &key, API_STATS_AGE_MS, &dests, &count, NULL);
		for (const struct backend *b = s->backends; b; b = b->hh.next) {
			const struct ipvs_dest *dest = desired_find_dest(dests, count, b);

			// names have no character that Prometheus would want escaped
			fprintf(out, "%s{service=\"%s\",backend=\"%s\"} %" PRIu64 "\n", metrics[which].name, s->name,
				b->name, metrics[which].read(b, dest ? dest : &none));
		}
	}
}

static void write_gauge(FILE *out, const char *name, const char *help, size_t value)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %zu\n", name, help, name, name, value);
}

void api_metrics(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	const struct model *model = &api->state->model;
	char *text = NULL;
	size_t len = 0, lost = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out) {
		const struct err err = { .text = "out of memory" };

		http_answer_error(exchange, 500, &err);
		return;
	}
	for (const struct agent *a = model->agents; a; a = a->hh.next)
		lost += a->lost;
	write_gauge(out, "brass_services", "virtual services", HASH_COUNT(model->services));
	write_gauge(out, "brass_agents", "registered agents", HASH_COUNT(model->agents));
	write_gauge(out, "brass_agents_lost", "agents whose lease ran out", lost);
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++)
		write_metric(out, api, i);
	fclose(out);
	http_answer_text(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}
