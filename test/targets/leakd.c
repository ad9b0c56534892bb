/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small server with a session cache that never evicts: the leaking daemon of scripts/demo. */
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

/*
 * leakd [PORT]   serves on 127.0.0.1 (0: any free port, which it prints)
 *   LOGIN name   -> TOKEN n     opens a session
 *   WHO n        -> the name, or "-"
 *   PING         -> PONG
 */
enum { CONNECTIONS = 64, BUCKETS = 4096, LINE_BYTES = 512 };

struct session {
    struct session *next;
    unsigned long token;
    char *name;
    char state[160];
};

struct connection {
    int fd; /* 0: free */
    size_t length;
    char *line;
};

struct server {
    int listener;
    unsigned long last_token;
    struct session *sessions[BUCKETS];
    struct connection connections[CONNECTIONS];
};

static inline __attribute__((always_inline)) char *copy_string(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

/* The bug: nothing ever closes a session. */
WATCHED static struct session *session_open(struct server *server, const char *name)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->name = copy_string(name);
    session->token = ++server->last_token;
    session->next = server->sessions[session->token % BUCKETS];
    server->sessions[session->token % BUCKETS] = session;
    return session;
}

WATCHED static const struct session *session_find(const struct server *server, unsigned long token)
{
    const struct session *session = server->sessions[token % BUCKETS];
    while (session && session->token != token)
        session = session->next;
    return session;
}

static int answer(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int answer(int fd, const char *format, ...)
{
    char text[LINE_BYTES + 32];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return length > 0 && send(fd, text, (size_t)length, MSG_NOSIGNAL) == length ? 0 : -1;
}

WATCHED static int command_login(struct server *server, int fd, const char *name)
{
    const struct session *session = session_open(server, name);
    if (session == NULL)
        return answer(fd, "ERROR out of memory\n");
    return answer(fd, "TOKEN %lu\n", session->token);
}

WATCHED static int command_who(const struct server *server, int fd, const char *token)
{
    const struct session *session = session_find(server, strtoul(token, NULL, 10));
    return answer(fd, "%s\n", session && session->name ? session->name : "-");
}

/* Parses a copy of the line, as servers do; this one is freed. */
WATCHED static int handle_line(struct server *server, int fd, const char *line)
{
    char *copy = copy_string(line);
    if (copy == NULL)
        return -1;
    int result;
    if (strncmp(copy, "LOGIN ", 6) == 0)
        result = command_login(server, fd, copy + 6);
    else if (strncmp(copy, "WHO ", 4) == 0)
        result = command_who(server, fd, copy + 4);
    else
        result = answer(fd, strcmp(copy, "PING") == 0 ? "PONG\n" : "ERROR unknown command\n");
    free(copy);
    return result;
}

static void close_connection(struct connection *connection)
{
    close(connection->fd);
    free(connection->line);
    memset(connection, 0, sizeof *connection);
}

/* -1: the connection is at its end. */
static int read_connection(struct server *server, struct connection *connection)
{
    ssize_t got = recv(connection->fd, connection->line + connection->length,
                       LINE_BYTES - 1 - connection->length, 0);
    if (got <= 0)
        return got < 0 && errno == EINTR ? 0 : -1;
    connection->length += (size_t)got;
    connection->line[connection->length] = '\0';
    char *newline;
    while ((newline = strchr(connection->line, '\n')) != NULL) {
        *newline = '\0';
        if (handle_line(server, connection->fd, connection->line) != 0)
            return -1;
        connection->length -= (size_t)(newline + 1 - connection->line);
        memmove(connection->line, newline + 1, connection->length + 1);
    }
    return connection->length == LINE_BYTES - 1 ? -1 : 0;
}

static void accept_connection(struct server *server)
{
    int fd = accept(server->listener, NULL, NULL);
    if (fd < 0)
        return;
    for (int i = 0; i < CONNECTIONS; i++) {
        struct connection *connection = &server->connections[i];
        if (connection->fd == 0 && (connection->line = malloc(LINE_BYTES)) != NULL) {
            connection->fd = fd;
            return;
        }
    }
    close(fd);
}

/* Waits for and serves whatever came; -1 when poll fails. */
WATCHED static int serve_once(struct server *server)
{
    struct pollfd polls[CONNECTIONS + 1] = {{.fd = server->listener, .events = POLLIN}};
    for (int i = 0; i < CONNECTIONS; i++)
        polls[i + 1] = (struct pollfd){
            .fd = server->connections[i].fd ? server->connections[i].fd : -1, .events = POLLIN};
    if (poll(polls, CONNECTIONS + 1, -1) < 0)
        return errno == EINTR ? 0 : -1;
    for (int i = 0; i < CONNECTIONS; i++)
        if (polls[i + 1].revents && read_connection(server, &server->connections[i]) != 0)
            close_connection(&server->connections[i]);
    if (polls[0].revents)
        accept_connection(server);
    return 0;
}

static int listen_on(unsigned short port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return -1;
    say("leakd: listening on 127.0.0.1:%d", ntohs(address.sin_port));
    return fd;
}

int main(int argc, char **argv)
{
    static struct server server;
    server.listener = listen_on((unsigned short)argument_or(argc, argv, 1, 0));
    if (server.listener < 0)
        return 1;
    while (serve_once(&server) == 0)
        ;
    return 1;
}
