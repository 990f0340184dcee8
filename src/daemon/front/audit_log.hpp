#pragma once

#include "audit/limiter.hpp"
#include "daemon/front/audit_file.hpp"
#include "serve/audit.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

namespace curvegate::daemon::front {

/// What becomes of a session whose line cannot be written.
enum class AuditNeed {
    attempted,  ///< it begins without one
    required,   ///< it does not begin
};

/// Writes what the front decides into the audit file. Any thread; one lock, one write() a line, no fsync.
/// What cannot be written is counted, and told in a line `lines_lost` as soon as lines can be written again.
class AuditLog final : public serve::Audit {
  public:
    /// From now on lines go there; no descriptor: nowhere.
    void open(os::UniqueFd file);
    /// Of the configuration that is in force: its number, and whether a session needs its line.
    void configure(std::uint32_t generation, AuditNeed need);
    /// A decision about the daemon itself.
    void decided(const audit::Entry& entry);
    /// Lines that are owed: refusals that were only counted.
    void finish();
    /// Lines that could not be written since the start.
    [[nodiscard]] std::uint64_t failures() const noexcept { return failures_; }

    [[nodiscard]] bool let_in(const serve::AuditRecord& who) override;
    void refused(const serve::AuditRecord& who) override;
    void ended(const serve::AuditRecord& who) override;
    void key_dropped(std::size_t sessions) override;

  private:
    [[nodiscard]] bool write(audit::Entry entry);
    [[nodiscard]] bool write_record(std::string_view event, const serve::AuditRecord& who,
                                    std::uint64_t count = 1);
    [[nodiscard]] Result<> tell_of_gaps();
    void fail_with(const Error& why);

    std::mutex mutex_;  // of all that follows
    AuditFile file_;
    audit::Limiter limiter_;
    std::uint32_t generation_ = 1;
    AuditNeed need_ = AuditNeed::attempted;
    std::uint64_t lost_ = 0;  // lines, since the last that was written
    std::string last_fault_;  // empty: the last line was written
    std::atomic<std::uint64_t> failures_{0};
};

}  // namespace curvegate::daemon::front
