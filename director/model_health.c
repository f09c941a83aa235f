// SPDX-License-Identifier: Apache-2.0
// What is kept of a backend's health, and how its service judges it.
#include "director/model.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

struct backend_health *model_health(struct backend *backend)
{
	if (!backend->health)
		backend->health = calloc(1, sizeof(*backend->health));
	return backend->health;
}

enum judge_verdict model_verdict(const struct backend *backend)
{
	return backend->health ? (enum judge_verdict)backend->health->judge.verdict : JUDGE_UP;
}

const struct judge_rules *model_judge(const struct backend *backend)
{
	const struct service_options *defaults = service_fields.defaults;

	return backend->service->judge ? backend->service->judge : &defaults->judge;
}

int model_come_back(struct backend *backend, msec_t now_ms, uint32_t part)
{
	if (!backend->comeback) {
		backend->comeback = calloc(1, sizeof(*backend->comeback));
		if (!backend->comeback)
			return -ENOMEM;
		backend->comeback->backend = backend;
		DL_APPEND(backend->service->model->comebacks, backend->comeback);
	}
	backend->comeback->started_ms = now_ms;
	backend->comeback->part = part;
	return 0;
}

void model_is_back(struct backend *backend)
{
	if (!backend->comeback)
		return;
	DL_DELETE(backend->service->model->comebacks, backend->comeback);
	free(backend->comeback);
	backend->comeback = NULL;
}

struct suspect *model_suspect(struct backend *backend)
{
	struct suspect *suspect = backend->suspect;

	if (suspect)
		return suspect;
	suspect = calloc(1, sizeof(*suspect));
	if (!suspect)
		return NULL;
	suspect->backend = backend;
	backend->suspect = suspect;
	DL_APPEND(backend->service->model->suspects, suspect);
	backend->service->suspects++;
	return suspect;
}

void model_clear_suspect(struct backend *backend)
{
	struct suspect *suspect = backend->suspect;

	if (!suspect)
		return;
	backend->service->passive_out -= suspect->passive.out_ms != 0;
	backend->service->suspects--;
	DL_DELETE(backend->service->model->suspects, suspect);
	passive_clear(&suspect->passive);
	free(suspect);
	backend->suspect = NULL;
}

void model_suspect_out(struct suspect *suspect, msec_t now_ms)
{
	suspect->backend->service->passive_out += suspect->passive.out_ms == 0;
	passive_out(&suspect->passive, now_ms);
}

void model_suspect_back(struct suspect *suspect, msec_t now_ms)
{
	suspect->backend->service->passive_out -= suspect->passive.out_ms != 0;
	passive_back(&suspect->passive, now_ms);
}

bool model_is_pool(const struct service *service)
{
	return service->split || service->pool;
}
