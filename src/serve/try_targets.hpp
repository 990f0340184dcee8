#pragma once

#include "io/clock.hpp"
#include "serve/service.hpp"

#include <functional>
#include <memory>

namespace curvegate::serve {

/// Does this failure say something of the target, rather than of us?
[[nodiscard]] bool is_targets_fault(const Error& why);
/// Would no other target do better? The vault, our memory or descriptors, or our own end.
[[nodiscard]] bool is_final(const Error& why);
/// Logs that a target failed and how long it rests.
void log_failing(const ServiceSpec& spec, const ServiceTarget& target, const Error& why, Duration rests);
void log_back(const ServiceSpec& spec, const ServiceTarget& target);

/// Tries the targets of a service, in the order that their health gives, until one answers. Each has a share
/// of the time that is left: one that says nothing leaves enough for the others.
template <class Value>
class TargetTries : public std::enable_shared_from_this<TargetTries<Value>> {
  public:
    using TriedFn = std::move_only_function<void(Result<Value>)>;
    /// Dials one target until `deadline`; calls `done` once, never from within.
    using DialFn = std::move_only_function<void(const ServiceTarget& target, Instant deadline, TriedFn done)>;
    /// `target` is the one that answered; nothing on an error: that of the only target, or no_target with
    /// each target and its reason.
    using DoneFn = std::move_only_function<void(Result<Value>, const ServiceTarget* target)>;

    TargetTries(SpecPtr spec, Instant deadline, DialFn dial, DoneFn done)
        : spec_(std::move(spec)),
          deadline_(deadline),
          dial_(std::move(dial)),
          done_(std::move(done)),
          order_(health().order(spec_->target_texts, spec_->failover, io::now())) {}

    void try_next() {
        const ServiceTarget& target = spec_->targets[order_[next_++]];
        const auto left = static_cast<int>(order_.size() - next_) + 1;
        const Instant began = io::now();
        dial_(target, left == 1 ? deadline_ : began + (deadline_ - began) / left,
              [self = this->shared_from_this(), &target, began](Result<Value> result) {
                  self->on_result(target, began, std::move(result));
              });
    }

  private:
    void on_result(const ServiceTarget& target, Instant began, Result<Value> result) {
        const bool several = order_.size() > 1;
        if (result) {
            if (health().succeeded(target.text) && several) log_back(*spec_, target);
            return done_(std::move(result), &target);
        }
        const Error& why = result.error();
        if (is_targets_fault(why)) {
            const Duration rests = health().failed(target.text, began, io::now());
            if (several) log_failing(*spec_, target, why, rests);
        }
        if (!several || is_final(why)) return done_(std::move(result), nullptr);
        reasons_ += (reasons_.empty() ? "" : "; ") + why.text();  // which names the target
        if (next_ < order_.size() && io::now() < deadline_) return try_next();
        done_(fail(io::DialErrc::no_target, std::move(reasons_)), nullptr);
    }

    [[nodiscard]] guard::TargetHealth& health() const { return spec_->counters->targets; }

    SpecPtr spec_;
    Instant deadline_;
    DialFn dial_;
    DoneFn done_;
    std::vector<std::size_t> order_;
    std::size_t next_ = 0;
    std::string reasons_;
};

template <class Value>
void try_targets(SpecPtr spec, Instant deadline, typename TargetTries<Value>::DialFn dial,
                 typename TargetTries<Value>::DoneFn done) {
    std::make_shared<TargetTries<Value>>(std::move(spec), deadline, std::move(dial), std::move(done))
        ->try_next();
}

}  // namespace curvegate::serve
