// SPDX-License-Identifier: Apache-2.0
// GET /events: what has happened, as a list, or as it happens (server-sent events, html.spec.whatwg.org,
// "text/event-stream"). A follower has no queue of its own, only a place in the ring: one that is too slow to keep it
// is told so and let go.
#include "director/api.h"

#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define FOLLOWERS_MAX 256
#define BEAT_MS 15000 // something is said at least so often: whoever has gone is noticed

struct follower {
	struct follower *prev, *next; // in api->followers
	struct api *api;
	struct http_exchange *exchange;
	uint64_t seen; // the last event that was sent
	bool follows;  // else what there is, as a list
	bool begun, beat;
};

static void follower_free(void *stream_ctx)
{
	struct follower *f = stream_ctx;

	if (f->follows) {
		DL_DELETE(f->api->followers, f);
		f->api->follower_count--;
	}
	free(f);
}

static bool list_next(void *stream_ctx, struct out *out)
{
	struct follower *f = stream_ctx;
	const char *text;

	if (!f->begun)
		out_open(out, '[');
	f->begun = true;
	while (out->len < HTTP_PIECE && (text = events_next(f->api->state->events, f->seen, &f->seen)))
		out_raw(out, text);
	if (out->len >= HTTP_PIECE)
		return true;
	out_close(out, '[');
	out_bytes(out, "\n", 1);
	return false;
}

static bool follow_next(void *stream_ctx, struct out *out)
{
	struct follower *f = stream_ctx;
	const struct events *events = f->api->state->events;
	const char *text;

	// an id without data is no event, but where a reader that loses us goes on
	if (!f->begun || f->beat)
		out_format(out, "id: %llu\n\n", (unsigned long long)f->seen);
	f->begun = true;
	f->beat = false;
	// ids are without a gap while a director runs
	if (events_oldest(events) > f->seen + 1) {
		out_text(out, ": you are too slow: events were dropped before they could be sent\n\n");
		return false;
	}
	while (out->len < HTTP_PIECE && (text = events_next(events, f->seen, &f->seen)))
		out_format(out, "id: %llu\ndata: %s\n\n", (unsigned long long)f->seen, text);
	return true;
}

static void wake_all(struct api *api)
{
	struct follower *f;

	DL_FOREACH(api->followers, f)
	http_wake(f->exchange);
}

void api_events_happened(struct api *api)
{
	wake_all(api);
}

static void on_beat(uv_timer_t *timer)
{
	struct api *api = timer->data;
	struct follower *f;

	DL_FOREACH(api->followers, f)
	f->beat = true;
	wake_all(api);
}

void api_events_open(struct api *api)
{
	uv_timer_init(api->loop, &api->beat);
	api->beat.data = api;
	uv_timer_start(&api->beat, on_beat, BEAT_MS, BEAT_MS);
}

void api_events_close(struct api *api)
{
	wake_all(api); // libmicrohttpd stops with no connection suspended
	if (api->beat.data)
		uv_close((uv_handle_t *)&api->beat, NULL);
}

// Where to begin: after ?since= or the header of a reader that comes back; a list begins at its beginning, a stream at
// its end. 0 or -EINVAL.
static int read_since(struct http_exchange *exchange, uint64_t otherwise, uint64_t *ret, struct err *err)
{
	const char *query = http_query(exchange, "since"),
		   *text = query ? query : http_header(exchange, "Last-Event-ID");
	char *end;

	*ret = otherwise;
	if (!text)
		return 0;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno)
		return err_set(err, -EINVAL, query ? "since" : "Last-Event-ID",
			"found \"%.40s\", allowed is the id of an event", text);
	return 0;
}

static bool wants_stream(const struct http_exchange *exchange)
{
	const char *accept = http_header(exchange, "Accept"), *follow = http_query(exchange, "follow");

	return (follow && strcmp(follow, "0") != 0) || (accept && strstr(accept, "text/event-stream"));
}

void api_events_get(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	const struct events *events = api->state->events;
	const bool follows = wants_stream(exchange);
	const uint64_t oldest = events_oldest(events);
	struct err err = { 0 };
	uint64_t since = 0;

	if (read_since(exchange, follows ? events_newest(events) : 0, &since, &err)) {
		api_fail(exchange, -EINVAL, &err);
		return;
	}
	struct follower *f = follows && api->follower_count == FOLLOWERS_MAX ? NULL : calloc(1, sizeof(*f));
	if (!f) {
		err_set(&err, 0, NULL, "%d clients follow the events already", FOLLOWERS_MAX);
		http_answer_error(exchange, 503, &err);
		return;
	}
	*f = (struct follower) { .api = api, .exchange = exchange, .follows = follows, .seen = since };
	// what is no longer kept is not missed at the beginning; nor is what is still to come
	if (oldest && f->seen + 1 < oldest)
		f->seen = oldest - 1;
	if (follows && f->seen > events_newest(events))
		f->seen = events_newest(events);
	if (follows) {
		DL_APPEND(api->followers, f);
		api->follower_count++;
	}
	http_answer_stream(exchange,
		&(struct http_stream) { .content_type = follows ? "text/event-stream" : "application/json",
			.next = follows ? follow_next : list_next,
			.free = follower_free,
			.ctx = f,
			.live = follows });
}
