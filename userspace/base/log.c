/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024 /* with its newline */

/* The one state of the project outside main's: logging must work from anywhere, before and after
 * all else. */
static struct {
	const char *program;
	enum log_level level;
} log_state = {"megalith", LOG_INFO};

void log_init(const char *program, enum log_level level)
{
	log_state.program = program;
	log_state.level = level;
}

/* One byte of text as it is shown; returns its length. A log line must not forge another, nor move
 * a cursor. */
static int escape(unsigned char c, char out[5])
{
	if (c >= 0x20 && c != 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	if (c == '\n' || c == '\t' || c == '\r') {
		out[0] = '\\';
		out[1] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
		return 2;
	}
	return snprintf(out, 5, "\\x%02x", c);
}

/* Whole or not at all: a pipe with room for less than a line would block the loop. */
static void write_line(const char *line, size_t len)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	struct sigaction ignore, before;

	if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
		return;
	memset(&ignore, 0, sizeof(ignore));
	ignore.sa_handler = SIG_IGN;
	/* Whoever read our stderr may have left: that must not end us. */
	sigaction(SIGPIPE, &ignore, &before);
	if (write(STDERR_FILENO, line, len) < 0) {
		/* nowhere left to say it */
	}
	sigaction(SIGPIPE, &before, NULL);
}

static void __attribute__((format(printf, 2, 0)))
log_line(enum log_level level, const char *format, va_list args)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES], shown[5];
	size_t len;
	int head;

	if (level > log_state.level)
		return;
	head = snprintf(line, sizeof(line), "%.64s: %s: ", log_state.program, names[level]);
	vsnprintf(text, sizeof(text), format, args);
	len = (size_t)head;
	for (const char *c = text; *c; c++) {
		size_t n = (size_t)escape((unsigned char)*c, shown);

		if (len + n >= sizeof(line))
			break;
		memcpy(line + len, shown, n);
		len += n;
	}
	line[len++] = '\n';
	write_line(line, len);
}

void log_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(LOG_ERROR, format, args);
	va_end(args);
}

void log_warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(LOG_WARN, format, args);
	va_end(args);
}

void log_info(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(LOG_INFO, format, args);
	va_end(args);
}

void log_debug(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(LOG_DEBUG, format, args);
	va_end(args);
}
