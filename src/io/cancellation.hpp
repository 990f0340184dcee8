#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace curvegate::io {

/// Shared by whoever asked for something that takes time and whoever does it: the first says by it that the
/// result is not wanted any more. One thread.
class Cancellation {
  public:
    using Handler = std::move_only_function<void()>;

    /// `handler` gives the work up. It replaces that of the stage before, is called at most once, and at once
    /// if cancel() was called already. It holds the work weakly: this may live longer.
    void on_cancel(Handler handler) {
        if (cancelled_) return handler();
        handler_ = std::move(handler);
    }
    void cancel() {
        cancelled_ = true;
        if (auto handler = std::exchange(handler_, nullptr)) handler();
    }
    [[nodiscard]] bool is_cancelled() const noexcept { return cancelled_; }

  private:
    Handler handler_;
    bool cancelled_ = false;
};

/// nullptr if nobody will give it up.
using CancellationPtr = std::shared_ptr<Cancellation>;

/// Calls `worker->stop()` when it is cancelled, if the worker is still there then.
template <class Worker>
void stop_on_cancel(const CancellationPtr& cancellation, const std::shared_ptr<Worker>& worker) {
    if (!cancellation) return;
    cancellation->on_cancel([weak = std::weak_ptr(worker)] {
        if (const auto alive = weak.lock()) alive->stop();
    });
}

}  // namespace curvegate::io
