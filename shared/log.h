// SPDX-License-Identifier: Apache-2.0
// Log lines to standard error, in the form systemd's journal understands. Floor 0.
//
// A line is one sentence. Under systemd (JOURNAL_STREAM set) it carries the "<3>" priority prefix and no time, because
// the journal adds its own; elsewhere it carries the time of day and the level. The level is the one mutable variable
// of the process that is not passed down: a log call must work from anywhere.
#ifndef BRASS_SHARED_LOG_H
#define BRASS_SHARED_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

// Chooses the least urgent level that is still printed; the start value is LOG_LEVEL_INFO.
void log_set_level(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
