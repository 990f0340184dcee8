#include "daemon/front/resolver.hpp"

#include "io/clock.hpp"
#include "log/log.hpp"

#include <boost/asio/post.hpp>

#include <set>

namespace curvegate::daemon::front {
namespace {

using io::DialErrc;
using io::now;

DialErrc error_of(NameOutcome outcome) {
    switch (outcome) {
        case NameOutcome::no_answer: return DialErrc::name_unanswered;
        case NameOutcome::busy: return DialErrc::names_busy;
        case NameOutcome::own_lack: return DialErrc::own_lack;
        case NameOutcome::found:
        case NameOutcome::unknown: break;
    }
    return DialErrc::name_unknown;
}

}  // namespace

ParentResolver::ParentResolver(asio::io_context& context, std::function<void(const ToParent&)> send)
    : context_(context), send_(std::move(send)), timer_(context) {}

void ParentResolver::resolve(asio::io_context& caller, const std::string& host, Handler handler) {
    asio::post(context_, [this, &caller, host, handler = std::move(handler)]() mutable {
        names_.resolve(
            host, now(), [&caller, host, handler = std::move(handler)](const NameAnswer& answer) mutable {
                Result<std::vector<ScopedIp>> result = answer.addresses;
                if (answer.addresses.empty()) result = fail(error_of(answer.outcome), host);
                asio::post(caller, [handler = std::move(handler), result = std::move(result)]() mutable {
                    handler(std::move(result));
                });
            });
        turn();
    });
}

void ParentResolver::resolved(to_front::Resolved message) {
    if (const auto failure = names_.answered(message.id, std::move(message.answer), now()))
        log_failure(*failure);
    turn();
}

void ParentResolver::keep_names_of(const config::Config& config) {
    std::set<std::string> hosts;
    for (const auto& service : config.services) {
        for (const auto& target : service.connect) hosts.insert(target.host);
    }
    names_.keep(hosts);
}

void ParentResolver::turn() {
    for (const auto& failure : names_.advance(now())) log_failure(failure);
    while (const auto ask = names_.next_ask(now())) send_(to_parent::Resolve{ask->id, ask->host});
    const Deadline next = names_.next_deadline();
    if (!next) return (void)timer_.cancel();
    timer_.expires_at(*next);
    timer_.async_wait([this](error_code error) {
        if (!error) turn();
    });
}

void ParentResolver::log_failure(const NameTable::Failure& failure) const {
    log::limited(log::Level::warning, "resolve_failed",
                 {{"host", failure.host},
                  {"reason", std::string(io::describe(error_of(failure.why)))},
                  {"stale", failure.stale ? "yes" : "no"}});
}

}  // namespace curvegate::daemon::front
