#include "daemon/front/audit_log.hpp"

#include "io/clock.hpp"
#include "log/log.hpp"

namespace curvegate::daemon::front {

void AuditLog::open(os::UniqueFd file) {
    const std::lock_guard lock(mutex_);
    file_.open(std::move(file));
}

void AuditLog::configure(std::uint32_t generation, AuditNeed need) {
    const std::lock_guard lock(mutex_);
    generation_ = generation;
    need_ = need;
}

void AuditLog::decided(const audit::Entry& entry) {
    const std::lock_guard lock(mutex_);
    (void)write(entry);
}

void AuditLog::finish() {
    const std::lock_guard lock(mutex_);
    limiter_.drain([this](const std::string& word, std::uint64_t count) {
        // The word is "PEER\nREASON".
        const auto end = word.find('\n');
        const std::string_view peer = std::string_view(word).substr(0, end);
        const std::string_view reason =
            end == std::string::npos ? std::string_view() : std::string_view(word).substr(end + 1);
        (void)write({.event = "handshake_reject", .peer = peer, .reason = reason, .count = count});
    });
}

bool AuditLog::let_in(const serve::AuditRecord& who) {
    const std::lock_guard lock(mutex_);
    if (!file_.is_open()) return need_ != AuditNeed::required;  // it may have been lost on its way here
    return write_record("handshake_ok", who) || need_ != AuditNeed::required;
}

void AuditLog::refused(const serve::AuditRecord& who) {
    const std::lock_guard lock(mutex_);
    if (!file_.is_open()) return;
    // Words of ours and names of known_hosts: a stranger adds none.
    const auto word = std::string(who.peer) + '\n' + std::string(who.reason);
    if (const auto count = limiter_.take(word, io::now()); count != 0)
        (void)write_record("handshake_reject", who, count);
}

void AuditLog::ended(const serve::AuditRecord& who) {
    const std::lock_guard lock(mutex_);
    (void)write_record("session_end", who);
}

void AuditLog::key_dropped(std::size_t sessions) {
    const std::lock_guard lock(mutex_);
    (void)write({.event = "key_compromised", .count = sessions});
}

bool AuditLog::write_record(std::string_view event, const serve::AuditRecord& who, std::uint64_t count) {
    const std::string key = who.key ? who.key->text() : std::string();
    return write({.event = event,
                  .service = who.service,
                  .peer = who.peer,
                  .key = key,
                  .source = who.source,
                  .reason = who.reason,
                  .count = count});
}

bool AuditLog::write(audit::Entry entry) {
    if (!file_.is_open()) return true;
    entry.generation = generation_;
    auto written = tell_of_gaps();
    if (written) written = file_.append(entry, io::wall_now());
    if (!written) {
        fail_with(written.error());
        return false;
    }
    last_fault_.clear();
    return true;
}

// Before the first line that can be written again.
Result<> AuditLog::tell_of_gaps() {
    if (auto resumed = file_.resume(); !resumed) return resumed;
    if (lost_ != 0) {
        const audit::Entry gap{
            .event = "lines_lost", .reason = last_fault_, .generation = generation_, .count = lost_};
        if (auto told = file_.append(gap, io::wall_now()); !told) return told;
        log::event(log::Level::warning, "audit_written_again", {{"lost", lost_}});
        lost_ = 0;
    }
    if (const auto torn = file_.torn(); torn != 0) {
        const audit::Entry cut{.event = "torn_line",
                               .reason = "an incomplete last line was cut off",
                               .generation = generation_,
                               .count = torn};
        if (auto told = file_.append(cut, io::wall_now()); !told) return told;
        file_.torn_told();
    }
    return {};
}

void AuditLog::fail_with(const Error& why) {
    ++failures_;
    ++lost_;
    const std::string text = why.text();
    // Once for each kind of trouble, however many lines it costs.
    if (text != last_fault_) log::limited(log::Level::error, "audit_failed", {{"reason", text}});
    last_fault_ = text;
}

}  // namespace curvegate::daemon::front
