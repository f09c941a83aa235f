// SPDX-License-Identifier: Apache-2.0
// The REST API: what each path does, over state.h. Floor 4.
#ifndef BRASS_DIRECTOR_API_H
#define BRASS_DIRECTOR_API_H

#include "director/diagnose.h"
#include "director/http_server.h"
#include "director/settings.h"
#include "director/state.h"
#include "director/sync.h"

// Connections and counters in answers are at most this old.
#define API_STATS_AGE_MS 100

struct api {
	struct state *state;
	struct settings *settings;
	struct sync *sync;
	struct diagnose *diagnose;
	bool closing;
	bool sync_declared; // in the configuration file: not to be changed here
	uv_loop_t *loop;
	msec_t started_ms; // monotonic
	// of api_events.c
	struct follower *followers;
	unsigned int follower_count;
	uv_timer_t beat;
};

// The end of a turn: settles what was staged and answers everybody who waits for it. When it is refused and there were
// several, each is tried again alone, so that each hears of its own mistake only.
void api_end_of_turn(void *ctx, struct http_exchange *const *deferred, size_t count);
void api_begin_turn(void *ctx);
bool api_must_wait(void *ctx);

// The route table; its handlers' ctx is the struct api.
extern const struct http_route api_routes[];
extern const size_t api_route_count;

// Hooks for struct state: an agent's held request is answered.
void api_agent_changed(struct api *api, struct agent *agent);
void api_agent_gone(struct api *api, struct agent *agent);
// There are new events: those who follow them get them.
void api_events_happened(struct api *api);
void api_events_open(struct api *api);
void api_events_close(struct api *api);
// Answers every held request with 503 and ends streams; before the server is freed.
void api_close(struct api *api);

// --- for the api_*.c files ---

// Parses the body into an object (new reference). On a mistake it answers 400 and returns NULL.
json_t *api_body(struct http_exchange *exchange);
// Answers an error of state.h with its status.
void api_fail(struct http_exchange *exchange, int code, const struct err *err);
// The end of staging a change: finish is called when the turn has ended. A mistake is answered at once, unless it may
// come from other changes of this turn, which may yet be taken back.
void api_staged(struct api *api, struct http_exchange *exchange, int code, const struct err *err,
	void (*finish)(void *ctx, struct http_exchange *exchange, int code, const struct err *err));
void api_not_found(struct api *api, struct http_exchange *exchange, const char *what, const char *name);
// A name in the path; answers 400 and returns NULL when it is none.
const char *api_name(struct http_exchange *exchange, size_t segment);

// One object, read now; or a walk over all services (only: over one), with their backends or as names. -- api_show.c
void api_answer_service(struct api *api, struct http_exchange *exchange, const struct service *service);
void api_answer_backend(struct api *api, struct http_exchange *exchange, const struct backend *backend, bool counters);
// The same, when it has been looked at: held until then. -- api_why.c
void api_answer_why(struct api *api, struct http_exchange *exchange, struct backend *backend);
void api_answer_walk(struct api *api, struct http_exchange *exchange, struct service *only, bool expand);

void api_service_list(void *ctx, struct http_exchange *exchange);
void api_service_get(void *ctx, struct http_exchange *exchange);
void api_service_put(void *ctx, struct http_exchange *exchange);
void api_service_patch(void *ctx, struct http_exchange *exchange);
void api_service_delete(void *ctx, struct http_exchange *exchange);
void api_backend_get(void *ctx, struct http_exchange *exchange);
void api_backend_put(void *ctx, struct http_exchange *exchange);
void api_backend_patch(void *ctx, struct http_exchange *exchange);
void api_backend_delete(void *ctx, struct http_exchange *exchange);
void api_config_get(void *ctx, struct http_exchange *exchange);
void api_config_put(void *ctx, struct http_exchange *exchange);
void api_sync_get(void *ctx, struct http_exchange *exchange);
void api_sync_put(void *ctx, struct http_exchange *exchange);
void api_events_get(void *ctx, struct http_exchange *exchange);
void api_metrics(void *ctx, struct http_exchange *exchange);
void api_agent_list(void *ctx, struct http_exchange *exchange);
void api_agent_get(void *ctx, struct http_exchange *exchange);
void api_agent_put(void *ctx, struct http_exchange *exchange);
void api_agent_delete(void *ctx, struct http_exchange *exchange);

#endif
