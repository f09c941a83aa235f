// SPDX-License-Identifier: Apache-2.0
#include "agent/retire.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_of(const struct retire_item *item, const struct client *client, const char *service)
{
	return item->client == client && (client || strcmp(item->drain.service, service) == 0);
}

static void look_at_director(struct retire_item *item)
{
	const struct client *client = item->client;
	// one that cannot be reached sends nothing more when the lease is over
	struct drain_count count = { .quiet = !client_may_be_sent_to(client) };

	for (size_t i = 0; client->state == CLIENT_REGISTERED && i < client->answer.count; i++) {
		count.at_directors += client->answer.services[i].active;
		count.quiet &= !client->answer.services[i].effective_weight && client->told;
	}
	drain_judge(&item->drain, &count, clock_now_ms());
}

static void end(struct retire *retire, size_t i)
{
	const struct retire_item item = retire->items[i];
	char text[DRAIN_TEXT_MAX];

	retire->items[i] = retire->items[--retire->count];
	log_write(item.drain.state == DRAIN_LATE ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "%s%s: drained: %s",
		item.client ? "director " : "service ", item.client ? item.client->url : item.drain.service,
		drain_describe(&item.drain, text));
	retire->over(retire->ctx, &item);
}

static void poll_clients(const struct retire *retire, bool on)
{
	const struct client_list *clients = retire->services->clients;

	for (size_t c = 0; c < clients->count; c++)
		client_poll(clients->items[c], on);
}

static void on_look(uv_timer_t *timer)
{
	struct retire *retire = timer->data;

	for (size_t i = retire->count; i-- > 0;) {
		struct retire_item *item = &retire->items[i];

		if (item->client)
			look_at_director(item);
		else
			drain_look(&item->drain, &retire->services->spec, retire->services->clients, false);
		if (item->drain.state != DRAIN_WAITING)
			end(retire, i);
	}
	// also off: who else wants answers at once says so with each look of its own
	poll_clients(retire, retire->count > 0);
	if (!retire->count)
		uv_timer_stop(timer);
}

static void add(struct retire *retire, struct client *client, const char *service, msec_t limit_ms)
{
	for (size_t i = 0; i < retire->count; i++)
		if (is_of(&retire->items[i], client, service))
			return;
	retire->items[retire->count++] = (struct retire_item) { client, drain_begin(service, limit_ms) };
	poll_clients(retire, true);
	for (size_t c = 0; c < retire->services->clients->count; c++)
		client_tell(retire->services->clients->items[c]);
	uv_update_time(retire->timer.loop);
	uv_timer_start(&retire->timer, on_look, DRAIN_LOOK_MS, DRAIN_LOOK_MS);
}

void retire_init(struct retire *retire, uv_loop_t *loop, const struct services *services,
	void (*over)(void *ctx, const struct retire_item *item), void *ctx)
{
	*retire = (struct retire) { .services = services, .over = over, .ctx = ctx };
	uv_timer_init(loop, &retire->timer);
	retire->timer.data = retire;
}

void retire_close(struct retire *retire)
{
	uv_close((uv_handle_t *)&retire->timer, NULL);
	free(retire->items);
	retire->items = NULL;
	retire->count = retire->room = 0;
}

int retire_reserve(struct retire *retire, size_t count)
{
	const size_t need = retire->count + count;

	if (need <= retire->room)
		return 0;
	struct retire_item *items = reallocarray(retire->items, need, sizeof(*items));
	if (!items)
		return -ENOMEM;
	retire->items = items;
	retire->room = need;
	return 0;
}

void retire_service(struct retire *retire, const char *service, msec_t limit_ms)
{
	add(retire, NULL, service, limit_ms);
}

void retire_client(struct retire *retire, struct client *client, msec_t limit_ms)
{
	add(retire, client, "", limit_ms);
}

void retire_forget(struct retire *retire, const struct client *client, const char *service)
{
	for (size_t i = retire->count; i-- > 0;)
		if (is_of(&retire->items[i], client, service))
			retire->items[i] = retire->items[--retire->count];
}

void retire_pause(struct retire *retire)
{
	uv_timer_stop(&retire->timer);
}
