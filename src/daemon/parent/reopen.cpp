#include "daemon/parent/reopen.hpp"

#include "daemon/parent/log_file.hpp"
#include "log/log.hpp"

#include <string>

namespace curvegate::daemon::parent {
namespace {

using log::Level;

void reopen_log(const config::Config& config, Supervisor& children) {
    auto file = open_log(config.log_file);
    if (!file) return log::event(Level::error, "log_not_reopened", {{"reason", file.error().text()}});
    log::redirect(file->get());
    children.handover().log(std::move(*file));
    children.front().send(to_front::Decided{0, to_front::Decided::What::log_reopened, {}});
    log::event(Level::info, "log_reopened");
}

void reopen_audit(const config::Config& config, Openings& openings, Supervisor& children) {
    auto file = openings.open_new_audit(config);
    if (!file) return log::event(Level::error, "audit_not_reopened", {{"reason", file.error().text()}});
    if (!*file) return;  // nobody has moved it
    openings.audit_is(std::move(*file));
    children.handover().audit(openings.audit());
    log::event(Level::info, "audit_reopened");
}

}  // namespace

void reopen_files(const config::Config& config, Openings& openings, Supervisor& children) {
    const bool to_file = !config.log_file.empty() && !is_standard_stream(config.log_file);
    const bool audited = !config.audit.empty();
    std::string action = to_file ? "open log-file again" : "none: no log-file";
    if (audited) action = to_file ? action + ", and audit" : "open audit again";
    log::event(Level::info, "signal", {{"name", "USR1"}, {"action", action}});
    if (to_file) reopen_log(config, children);
    if (audited) reopen_audit(config, openings, children);
}

}  // namespace curvegate::daemon::parent
