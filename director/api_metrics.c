// SPDX-License-Identifier: Apache-2.0
// GET /metrics: Prometheus text exposition format 0.0.4. One table row a metric. The format wants all lines of one
// metric together, so the first walk over the backends keeps what was counted, for the others; all of it goes out piece
// by piece between other requests.
#include "director/api.h"

#include "shared/util.h"

#include <stdlib.h>
#include <string.h>

struct sample {
	size_t label; // where its labels stand in its block
	uint64_t up, weight, active, inactive, connections, in_packets, out_packets, in_bytes, out_bytes, days;
};

static const struct {
	const char *name, *type, *help;
	size_t offset;
} metrics[] = {
	{ "brass_backend_up", "gauge", "1 when the backend may get connections", offsetof(struct sample, up) },
	{ "brass_backend_weight", "gauge", "effective weight", offsetof(struct sample, weight) },
	{ "brass_backend_active_connections", "gauge", "connections that IPVS takes for established",
		offsetof(struct sample, active) },
	{ "brass_backend_inactive_connections", "gauge", "other connection entries",
		offsetof(struct sample, inactive) },
	{ "brass_backend_connections_total", "counter", "connections scheduled", offsetof(struct sample, connections) },
	{ "brass_backend_in_packets_total", "counter", "packets from clients", offsetof(struct sample, in_packets) },
	{ "brass_backend_out_packets_total", "counter", "packets to clients (nat only)",
		offsetof(struct sample, out_packets) },
	{ "brass_backend_in_bytes_total", "counter", "bytes from clients", offsetof(struct sample, in_bytes) },
	{ "brass_backend_out_bytes_total", "counter", "bytes to clients (nat only)",
		offsetof(struct sample, out_bytes) },
	{ "brass_backend_certificate_expiry_days", "gauge",
		"whole days until the certificate that its pulse was shown expires; 0: it has expired",
		offsetof(struct sample, days) },
};
#define NO_SAMPLE UINT64_MAX // this backend has none of this metric

// A growing array would be copied now and then, all at once.
#define BLOCK_SAMPLES 64
struct block {
	struct block *next;
	size_t count;
	struct sample samples[BLOCK_SAMPLES];
	struct out labels; // each ends with a zero
};

struct walk {
	struct api *api;
	struct model_cursor cursor;   // of the first metric
	const struct service *inside; // the one whose counters are at hand
	struct ipvs_counted *counted;
	size_t counted_count;
	struct block *blocks, *last;
	// what comes next: of this metric, in this block, this sample
	size_t metric;
	struct block *block;
	size_t next;
	bool begun, gathered;
};

static void walk_free(void *stream_ctx)
{
	struct walk *walk = stream_ctx;

	model_cursor_stop(&walk->cursor, &walk->api->state->model);
	free(walk->counted);
	while (walk->blocks) {
		struct block *block = walk->blocks;

		walk->blocks = block->next;
		out_free(&block->labels);
		free(block);
	}
	free(walk);
}

static void write_head(struct out *out, const char *name, const char *type, const char *help)
{
	out_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_gauge(struct out *out, const char *name, const char *help, size_t value)
{
	write_head(out, name, "gauge", help);
	out_format(out, "%s %zu\n", name, value);
}

static void write_totals(struct out *out, const struct model *model)
{
	size_t lost = 0;

	for (const struct agent *a = model->agents; a; a = a->hh.next)
		lost += a->lost;
	write_gauge(out, "brass_services", "virtual services", HASH_COUNT(model->services));
	write_gauge(out, "brass_agents", "registered agents", HASH_COUNT(model->agents));
	write_gauge(out, "brass_agents_lost", "agents whose lease ran out", lost);
}

static void write_sample(
	const struct walk *walk, struct out *out, const struct block *block, const struct sample *sample)
{
	const char *member = (const char *)sample + metrics[walk->metric].offset;
	const uint64_t value = *(const uint64_t *)(const void *)member;

	if (value == NO_SAMPLE)
		return;
	out_text(out, metrics[walk->metric].name);
	out_text(out, block->labels.text + sample->label);
	out_digits(out, value);
	out_bytes(out, "\n", 1);
}

static uint64_t days_left(const struct backend *backend)
{
	const int64_t expires_s = backend->health ? backend->health->expires_s : 0,
		      left = expires_s - clock_wall_ms() / 1000;

	return !expires_s ? NO_SAMPLE : left > 0 ? (uint64_t)left / 86400 : 0;
}

static struct sample *take(struct walk *walk, const struct backend *backend)
{
	static const struct ipvs_counted none;
	const struct ipvs_counted *c = reconcile_find(walk->counted, walk->counted_count, backend);

	struct block *block = walk->last;

	if (!block || block->count == BLOCK_SAMPLES) {
		block = calloc(1, sizeof(*block));
		if (!block)
			return NULL;
		*(walk->last ? &walk->last->next : &walk->blocks) = block;
		walk->last = block;
	}
	if (!c)
		c = &none;
	struct sample *sample = &block->samples[block->count++];
	*sample = (struct sample) { block->labels.len, desired_status(backend) == STATUS_UP, desired_weight(backend),
		c->active, c->inactive, c->stats.connections, c->stats.in_packets, c->stats.out_packets,
		c->stats.in_bytes, c->stats.out_bytes, days_left(backend) };
	// names have no character that Prometheus would want escaped
	out_format(&block->labels, "{service=\"%s\",backend=\"%s\"} ", backend->service->name, backend->name);
	out_bytes(&block->labels, "", 1);
	return block->labels.failed ? NULL : sample;
}

// The next backend of the walk: counted, kept, and written as a sample of the first metric.
static void gather(struct walk *walk, struct out *out)
{
	const struct service *service = walk->cursor.service;
	struct backend *backend = walk->cursor.backend;

	if (!service) {
		walk->gathered = true;
		walk->metric++;
		walk->block = walk->blocks;
		return;
	}
	if (walk->inside != service) {
		free(walk->counted);
		walk->counted = NULL;
		walk->counted_count = 0;
		reconcile_read_stats(
			walk->api->state->reconcile, &service->key, &walk->counted, &walk->counted_count, NULL);
		walk->inside = service;
	}
	if (!backend) {
		model_cursor_advance(&walk->cursor);
		walk->inside = NULL;
		return;
	}
	walk->cursor.backend = backend->next;
	const struct sample *sample = take(walk, backend);
	if (sample)
		write_sample(walk, out, walk->last, sample);
	else
		out->failed = true;
}

static void repeat(struct walk *walk, struct out *out)
{
	if (walk->block == walk->blocks && !walk->next)
		write_head(out, metrics[walk->metric].name, metrics[walk->metric].type, metrics[walk->metric].help);
	if (walk->block && walk->next < walk->block->count)
		write_sample(walk, out, walk->block, &walk->block->samples[walk->next++]);
	if (walk->block && walk->next == walk->block->count) {
		walk->block = walk->block->next;
		walk->next = 0;
	}
	if (!walk->block) {
		walk->metric++;
		walk->block = walk->blocks;
	}
}

static bool walk_next(void *stream_ctx, struct out *out)
{
	struct walk *walk = stream_ctx;

	if (!walk->begun) {
		write_totals(out, &walk->api->state->model);
		write_head(out, metrics[0].name, metrics[0].type, metrics[0].help);
		walk->begun = true;
	}
	while (walk->metric < ARRAY_SIZE(metrics) && out->len < HTTP_PIECE && !out->failed) {
		if (!walk->gathered)
			gather(walk, out);
		else
			repeat(walk, out);
	}
	return walk->metric < ARRAY_SIZE(metrics) && !out->failed;
}

void api_metrics(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct walk *walk = calloc(1, sizeof(*walk));

	if (!walk) {
		const struct err err = { .text = "out of memory" };

		http_answer_error(exchange, 500, &err);
		return;
	}
	walk->api = api;
	model_cursor_start(&walk->cursor, &api->state->model);
	http_answer_stream(exchange,
		&(struct http_stream) {
			"text/plain; version=0.0.4; charset=utf-8", walk_next, walk_free, walk, false });
}
