// SPDX-License-Identifier: Apache-2.0
// Several checks side by side. all: over with the first that fails; any: over with the first that passes. One that
// cannot be carried out is neither.
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON_MAX 400

struct part {
	struct group_check *group;
	struct check *check; // running; NULL: it is not
};

struct group_check {
	struct check base;
	bool any;
	int count, left;
	int64_t expires_s;         // the earliest
	enum check_outcome failed; // the first failure that counts, see note_failure
	char reason[REASON_MAX];
	size_t len;
	uv_timer_t turn; // for what is known before anything runs
	struct part parts[CHECK_PARTS_MAX];
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void end_parts(struct group_check *group)
{
	for (int i = 0; i < group->count; i++)
		check_cancel(STEAL(group->parts[i].check));
	uv_close((uv_handle_t *)&group->turn, on_closed);
}

static void finish(struct group_check *group, enum check_outcome outcome, const char *reason)
{
	char text[REASON_MAX];
	check_done_fn done = group->base.done;
	void *ctx = group->base.ctx;

	snprintf(text, sizeof(text), "%s", reason);
	end_parts(group);
	done(ctx, &(struct check_result) { outcome, text, group->expires_s });
}

static void note_failure(struct group_check *group, const struct check_result *result)
{
	const bool broken = result->outcome == CHECK_BROKEN;
	int n;

	// a part that could not be carried out might have passed: with all, another's failure settles it, with any,
	// nothing but a pass does
	if (!group->len || (group->any ? broken : group->failed == CHECK_BROKEN))
		group->failed = result->outcome;
	n = snprintf(
		group->reason + group->len, REASON_MAX - group->len, "%s%s", group->len ? "; " : "", result->reason);
	group->len += n > 0 && (size_t)n < REASON_MAX - group->len ? (size_t)n : REASON_MAX - 1 - group->len;
}

static bool has_failed(const struct group_check *group)
{
	return group->len && (!group->left || (!group->any && group->failed != CHECK_BROKEN));
}

// Returns whether the group is over.
static bool take(struct group_check *group, const struct check_result *result)
{
	const bool passed = result->outcome == CHECK_PASS;

	group->left--;
	if (result->expires_s && (!group->expires_s || result->expires_s < group->expires_s))
		group->expires_s = result->expires_s;
	if (!passed)
		note_failure(group, result);
	if (passed && (group->any || (!group->left && !group->len)))
		finish(group, CHECK_PASS, result->reason);
	else if (has_failed(group))
		finish(group, group->failed, group->reason);
	else
		return false;
	return true;
}

static void on_result(void *ctx, const struct check_result *result)
{
	struct part *part = ctx;

	part->check = NULL;
	take(part->group, result);
}

// A part with a port or a way of its own goes straight, as a pulse would (model_probe_way).
static bool goes_along(const struct check_spec *part, uint16_t port)
{
	const bool own_port = part->args.port && part->args.port != port;

	return part->via == CHECK_VIA_VIP || (part->via == CHECK_VIA_AUTO && !own_port);
}

static struct check_target aim(const struct check_spec *part, const struct check_target *target)
{
	if (!target->path.mark || goes_along(part, target->real.port))
		return *target;
	return (struct check_target) { .to = target->real, .about = target->about };
}

static void start_part(struct group_check *group, const struct check_env *env, const struct check_spec *part,
	const struct check_target *target, struct part *ret)
{
	const struct check_target to = aim(part, target);
	char reason[120];

	ret->group = group;
	int rc = check_start(env, part, &to, on_result, ret, &ret->check);
	if (!rc)
		return;
	// the others go on; if there are none, on_turn ends it
	snprintf(reason, sizeof(reason), "cannot start the check of type %s: %s", check_kind_name(part->kind),
		strerror(-rc));
	group->left--;
	note_failure(group, &(struct check_result) { check_outcome_of_start(part->kind, rc), reason, 0 });
}

static void on_turn(uv_timer_t *timer)
{
	struct group_check *group = timer->data;

	if (has_failed(group))
		finish(group, group->failed, group->reason);
}

static void group_cancel(struct check *base)
{
	end_parts(container_of(base, struct group_check, base));
}

static int group_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	struct check_spec parts[CHECK_PARTS_MAX];
	struct group_check *group;
	int count = check_parts(&spec->args, parts);

	if (count <= 0)
		return count ? count : -EINVAL;
	group = calloc(1, sizeof(*group));
	if (!group)
		return -ENOMEM;
	group->any = spec->kind == CHECK_ANY;
	group->count = group->left = count;
	uv_timer_init(env->loop, &group->turn);
	group->turn.data = group;
	for (int i = 0; i < count; i++) {
		if (!field_is_set(&check_fields, &parts[i], "timeout") || parts[i].timeout_ms > spec->timeout_ms)
			parts[i].timeout_ms = spec->timeout_ms;
		start_part(group, env, &parts[i], target, &group->parts[i]);
	}
	uv_timer_start(&group->turn, on_turn, 0, 0);
	*ret = &group->base;
	return 0;
}

// Silence passes as well for udp without an expected answer.
static bool hears(const struct check_spec *spec)
{
	return check_speaks_tcp(spec->kind, false) || spec->kind == CHECK_DNS || *spec->args.answer;
}

bool check_heard(const struct check_spec *spec, enum check_outcome outcome, uint16_t port)
{
	struct check_spec parts[CHECK_PARTS_MAX];
	int heard = 0, count = 0;

	if (outcome != CHECK_PASS && outcome != CHECK_REFUSED && outcome != CHECK_WRONG)
		return false;
	if (spec->kind != CHECK_ALL && spec->kind != CHECK_ANY)
		return hears(spec);
	count = check_parts(&spec->args, parts);
	for (int i = 0; i < count; i++)
		heard += hears(&parts[i]) && goes_along(&parts[i], spec->args.port ? (uint16_t)spec->args.port : port);
	// all have passed, or nobody knows whose outcome it is
	return spec->kind == CHECK_ALL && outcome == CHECK_PASS ? heard > 0 : heard > 0 && heard == count;
}

const struct check_type check_group = { "group", group_start, group_cancel };
