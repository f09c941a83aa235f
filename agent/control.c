// SPDX-License-Identifier: Apache-2.0
#include "agent/control.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>
#include <utlist.h>

#define REQUEST_MAX 4096
#define REQUEST_TIMEOUT_MS 5000
#define VISITORS_MAX 32
#define TOGETHER_MS 50 // changes within it are one

// reading --(a whole line)--> answered --(more)--> waiting --(a change)--> waiting ... --(the last)--> closing
struct visitor {
	struct visitor *prev, *next;
	struct control *control;
	uv_pipe_t pipe;
	uv_timer_t timer; // for the request
	uv_write_t write;
	char *text; // being written
	char request_text[REQUEST_MAX];
	size_t request_len;
	json_t *request; // NULL: still reading
	json_t *said;    // last
	const struct control_word *word;
	bool more;
	int open_handles;
};

struct control {
	uv_pipe_t pipe;
	uv_timer_t timer;
	const struct control_word *words;
	void *ctx;
	struct visitor *visitors;
	size_t visitor_count;
	char path[108];
	int open_handles;
	bool ended; // no visitor refers to it any more when the last handle is closed
};

static void release(struct control *control)
{
	if (control->ended && !control->open_handles && !control->visitor_count)
		free(control);
}

static void visitor_closed(uv_handle_t *handle)
{
	struct visitor *visitor = handle->data;

	if (--visitor->open_handles)
		return;
	struct control *control = visitor->control;

	control->visitor_count--;
	json_decref(visitor->request);
	json_decref(visitor->said);
	free(visitor->text);
	free(visitor);
	release(control);
}

static void visitor_end(struct visitor *visitor)
{
	if (uv_is_closing((uv_handle_t *)&visitor->pipe))
		return;
	DL_DELETE(visitor->control->visitors, visitor);
	uv_close((uv_handle_t *)&visitor->timer, visitor_closed);
	uv_close((uv_handle_t *)&visitor->pipe, visitor_closed);
}

static void tell(struct visitor *visitor);

static void on_written(uv_write_t *write, int status)
{
	struct visitor *visitor = write->data;

	free(STEAL(visitor->text));
	if (status || !visitor->more)
		visitor_end(visitor);
	else
		tell(visitor); // what has changed in the meantime
}

static void say(struct visitor *visitor, const json_t *document)
{
	_cleanup_free_ char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

	if (!text || asprintf(&visitor->text, "%s\n", text) < 0) {
		visitor->text = NULL;
		visitor_end(visitor);
		return;
	}
	const uv_buf_t buf = uv_buf_init(visitor->text, (unsigned int)strlen(visitor->text));
	if (uv_write(&visitor->write, (uv_stream_t *)&visitor->pipe, &buf, 1, on_written))
		visitor_end(visitor);
}

static void say_error(struct visitor *visitor, const char *sentence)
{
	json_t *document = json_pack("{s:s}", "error", sentence);

	visitor->more = false;
	say(visitor, document);
	json_decref(document);
}

// The present document, unless it was said already or the last is still on its way.
static void tell(struct visitor *visitor)
{
	struct control *control = visitor->control;
	const struct control_word *word = visitor->word;

	if (visitor->text || uv_is_closing((uv_handle_t *)&visitor->pipe))
		return;
	visitor->more = false;
	json_t *now = word->look(control->ctx, visitor->request, &visitor->more);
	bool said = visitor->more && now && visitor->said &&
		(word->same ? word->same(now, visitor->said) : json_equal(now, visitor->said));

	if (said) {
		json_decref(now);
		return;
	}
	json_decref(visitor->said);
	visitor->said = now;
	say(visitor, now);
}

static void answer(struct visitor *visitor)
{
	const char *name = json_string_value(json_object_get(visitor->request, "word"));
	const struct control_word *word = visitor->control->words;
	struct err err = { 0 };

	while (word->name && (!name || strcmp(word->name, name) != 0))
		word++;
	visitor->word = word;
	if (!word->name)
		err_set(&err, -EINVAL, NULL, "the running agent does not know the word %.40s", name ? name : "(none)");
	else if (!word->begin || !word->begin(visitor->control->ctx, visitor->request, &err)) {
		tell(visitor);
		return;
	}
	say_error(visitor, err.text);
}

static void make_room(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
	struct visitor *visitor = handle->data;

	(void)size;
	*ret = uv_buf_init(visitor->request_text + visitor->request_len,
		(unsigned int)(sizeof(visitor->request_text) - visitor->request_len));
}

// After the request nothing is read but the end.
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct visitor *visitor = stream->data;

	(void)buf;
	if (n < 0) {
		visitor_end(visitor);
		return;
	}
	if (visitor->request)
		return;
	visitor->request_len += (size_t)n;
	const char *end = memchr(visitor->request_text, '\n', visitor->request_len);
	if (!end && visitor->request_len < sizeof(visitor->request_text))
		return;
	uv_timer_stop(&visitor->timer);
	visitor->request =
		end ? json_loadb(visitor->request_text, (size_t)(end - visitor->request_text), 0, NULL) : NULL;
	visitor->request_len = 0;
	if (!json_is_object(visitor->request)) {
		json_decref(visitor->request);
		visitor->request = json_object();
		say_error(visitor, "the request is no JSON object in one line");
		return;
	}
	answer(visitor);
}

static void on_request_timeout(uv_timer_t *timer)
{
	visitor_end(timer->data);
}

static void on_visitor(uv_stream_t *server, int status)
{
	struct control *control = server->data;
	struct visitor *visitor = status < 0 ? NULL : calloc(1, sizeof(*visitor));

	if (!visitor)
		return;
	visitor->control = control;
	visitor->open_handles = 2;
	uv_pipe_init(server->loop, &visitor->pipe, 0);
	uv_timer_init(server->loop, &visitor->timer);
	visitor->pipe.data = visitor->timer.data = visitor->write.data = visitor;
	control->visitor_count++;
	DL_APPEND(control->visitors, visitor);
	if (uv_accept(server, (uv_stream_t *)&visitor->pipe) || control->visitor_count > VISITORS_MAX ||
		uv_read_start((uv_stream_t *)&visitor->pipe, make_room, on_read)) {
		visitor_end(visitor);
		return;
	}
	uv_update_time(server->loop);
	uv_timer_start(&visitor->timer, on_request_timeout, REQUEST_TIMEOUT_MS, 0);
}

static void on_change(uv_timer_t *timer)
{
	struct control *control = timer->data;
	struct visitor *visitor, *next;

	DL_FOREACH_SAFE(control->visitors, visitor, next)
	if (visitor->more)
		tell(visitor);
}

void control_changed(struct control *control)
{
	if (!control || !control->visitors || uv_is_active((uv_handle_t *)&control->timer))
		return;
	uv_update_time(control->timer.loop);
	uv_timer_start(&control->timer, on_change, TOGETHER_MS, 0);
}

static void control_closed(uv_handle_t *handle)
{
	struct control *control = handle->data;

	control->open_handles--;
	release(control);
}

static void close_handles(struct control *control)
{
	control->ended = true;
	uv_close((uv_handle_t *)&control->timer, control_closed);
	uv_close((uv_handle_t *)&control->pipe, control_closed);
}

int control_new(uv_loop_t *loop, const char *run_dir, const struct control_word *words, void *ctx, struct control **ret,
	struct err *err)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	control->words = words;
	control->ctx = ctx;
	snprintf(control->path, sizeof(control->path), "%s/agent.sock", run_dir);
	if (control_is_there(run_dir)) {
		err_set(err, -EADDRINUSE, NULL, "another brass-agent is running: it answers on %s", control->path);
		free(control);
		return -EADDRINUSE;
	}
	unlink(control->path); // left by one that was killed
	uv_pipe_init(loop, &control->pipe, 0);
	uv_timer_init(loop, &control->timer);
	control->open_handles = 2;
	control->pipe.data = control->timer.data = control;
	mode_t old = umask(0177);
	int rc = uv_pipe_bind(&control->pipe, control->path);
	umask(old);
	if (!rc)
		rc = uv_listen((uv_stream_t *)&control->pipe, 16, on_visitor);
	if (rc) {
		err_set(err, rc, NULL, "cannot listen on %s: %s", control->path, strerror(-rc));
		close_handles(control);
		return rc;
	}
	*ret = control;
	return 0;
}

void control_free(struct control *control)
{
	struct visitor *visitor, *next;

	if (!control)
		return;
	unlink(control->path);
	DL_FOREACH_SAFE(control->visitors, visitor, next)
	visitor_end(visitor);
	close_handles(control);
}
