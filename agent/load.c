// SPDX-License-Identifier: Apache-2.0
#include "agent/load.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 2000
#define FALL_MAX 0.25 // of the whole, in one look
#define RISE_MAX 0.05
#define TELL 0.05 // smaller changes are not worth a message

bool load_judge(struct load_state *s, double pressure, uint64_t overflows)
{
	double target = pressure > 0 ? 1 - (pressure > 100 ? 100 : pressure) / 100 : 1;

	if (!s->begun)
		*s = (struct load_state) { .share = 1, .told = 1, .overflows = overflows, .begun = true };
	// who turns connections away gets half as many
	if (overflows > s->overflows && target > s->share / 2)
		target = s->share / 2;
	s->overflows = overflows;
	if (target < s->share - FALL_MAX)
		target = s->share - FALL_MAX;
	else if (target > s->share + RISE_MAX)
		target = s->share + RISE_MAX;
	s->share = target;
	const double change = s->share > s->told ? s->share - s->told : s->told - s->share;
	const bool is_whole = s->share > 1 - 1e-9 && s->told < 1;

	if (change < TELL - 1e-9 && !is_whole)
		return false;
	s->told = is_whole ? 1 : s->share;
	return true;
}

uint32_t load_weight(uint32_t base, uint32_t min, double share)
{
	if (min >= base)
		return base;
	const uint32_t weight = (uint32_t)((double)base * share + 0.5);

	return weight < min ? min : weight;
}

struct load {
	uv_timer_t timer;
	struct load_state state;
	void (*changed)(void *ctx);
	void *ctx;
	bool said_none;
};

// Percent, or -1.
static double read_pressure(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/pressure/cpu", "re");
	double avg10;

	return f && fscanf(f, "some avg10=%lf", &avg10) == 1 ? avg10 : -1;
}

// The value below a name: the file has pairs of lines, names and numbers.
static uint64_t read_overflows(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/net/netstat", "re");
	char names[8192], values[8192];

	while (f && fgets(names, sizeof(names), f) && fgets(values, sizeof(values), f)) {
		char *name_rest = names, *value_rest = values;

		if (strncmp(names, "TcpExt:", 7) != 0)
			continue;
		for (;;) {
			const char *name = strsep(&name_rest, " \n"), *value = strsep(&value_rest, " \n");

			if (!name || !value)
				return 0;
			if (strcmp(name, "ListenOverflows") == 0)
				return strtoull(value, NULL, 10);
		}
	}
	return 0;
}

static void on_look(uv_timer_t *timer)
{
	struct load *load = timer->data;
	const double pressure = read_pressure();

	if (pressure < 0 && !load->said_none)
		log_warning("this kernel has no /proc/pressure/cpu: only full listen queues lower the weight");
	load->said_none = pressure < 0;
	if (!load_judge(&load->state, pressure, read_overflows()))
		return;
	log_info("load: %.0f %% of the weight", load->state.told * 100);
	load->changed(load->ctx);
}

int load_new(uv_loop_t *loop, void (*changed)(void *ctx), void *ctx, struct load **ret, struct err *err)
{
	struct load *load = calloc(1, sizeof(*load));

	if (!load)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	load->changed = changed;
	load->ctx = ctx;
	load_judge(&load->state, 0, read_overflows());
	uv_timer_init(loop, &load->timer);
	load->timer.data = load;
	uv_timer_start(&load->timer, on_look, LOOK_MS, LOOK_MS);
	*ret = load;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void load_free(struct load *load)
{
	if (load)
		uv_close((uv_handle_t *)&load->timer, on_closed);
}

double load_share(const struct load *load)
{
	return load ? load->state.told : 1;
}
