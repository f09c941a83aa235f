// SPDX-License-Identifier: Apache-2.0
#include "shared/loop.h"

static void on_patience(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

bool loop_finish(uv_loop_t *loop, msec_t patience_ms)
{
	uv_timer_t patience;

	uv_timer_init(loop, &patience);
	uv_update_time(loop);
	uv_timer_start(&patience, on_patience, (uint64_t)patience_ms, 0);
	uv_unref((uv_handle_t *)&patience);
	uv_run(loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&patience, NULL);
	uv_run(loop, UV_RUN_NOWAIT); // closes it
	return uv_loop_close(loop) == 0;
}
