/* SPDX-License-Identifier: MIT */
/*
 * One line a message on stderr: "PROGRAM: LEVEL: text". Control characters are escaped, a line is
 * cut at 1,024 bytes, a full or closed stderr is ignored. The layer that can act logs, once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Program's name and the highest level shown (default "megalith", LOG_INFO). Call once in main. */
void log_init(const char *program, enum log_level level);
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
