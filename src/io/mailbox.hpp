#pragma once

#include "base/time.hpp"
#include "io/asio.hpp"

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>

#include <deque>
#include <list>
#include <memory>
#include <optional>

namespace curvegate::io {

/// A queue of items and a queue of those who wait for them, both first in, first out. An item is given away
/// at the moment its waiter's handler runs and not before, so that a wait which is cancelled or timed out has
/// never taken one. One thread.
template <class Item>
class Mailbox : public std::enable_shared_from_this<Mailbox<Item>> {
  public:
    using Handler = asio::any_completion_handler<void(error_code, Item)>;

    explicit Mailbox(asio::io_context& context) : context_(context) {}

    [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }
    [[nodiscard]] bool awaited() const noexcept { return !waiters_.empty(); }

    void put(Item item) {
        items_.push_back(std::move(item));
        schedule();
    }

    /// Items that are there already are still delivered; whoever waits then, or comes later, gets `why`.
    void close(error_code why) {
        if (!closed_) closed_ = why;
        schedule();
    }
    /// The same, but what is there is lost.
    void close_at_once(error_code why) {
        items_.clear();
        close(why);
    }

    void wait(std::optional<Duration> timeout, Handler handler) {
        const auto waiter = waiters_.insert(waiters_.end(), Waiter{std::move(handler), nullptr, next_id_++});
        auto slot = asio::get_associated_cancellation_slot(waiter->handler);
        if (slot.is_connected()) {
            slot.assign([weak = this->weak_from_this(), id = waiter->id](asio::cancellation_type) {
                if (const auto self = weak.lock()) self->give_up(id, asio::error::operation_aborted);
            });
        }
        if (timeout) {
            waiter->timer = std::make_unique<io::Timer>(context_, *timeout);
            waiter->timer->async_wait([weak = this->weak_from_this(), id = waiter->id](error_code error) {
                const auto self = weak.lock();
                if (!error && self) self->give_up(id, asio::error::timed_out);
            });
        }
        schedule();
    }

  private:
    struct Waiter {
        Handler handler;
        std::unique_ptr<io::Timer> timer;
        std::uint64_t id;
    };

    void schedule() {
        if (scheduled_ || waiters_.empty() || (items_.empty() && !closed_)) return;
        scheduled_ = true;
        asio::post(context_, [self = this->shared_from_this()] { self->serve(); });
    }

    void serve() {
        scheduled_ = false;
        while (!waiters_.empty() && (!items_.empty() || closed_)) {
            Waiter waiter = std::move(waiters_.front());
            waiters_.pop_front();
            if (items_.empty()) {
                finish(std::move(waiter), *closed_, Item());
            } else {
                Item item = std::move(items_.front());
                items_.pop_front();
                finish(std::move(waiter), {}, std::move(item));
            }
        }
    }

    void give_up(std::uint64_t id, error_code why) {
        for (auto waiter = waiters_.begin(); waiter != waiters_.end(); ++waiter) {
            if (waiter->id != id) continue;
            Waiter gone = std::move(*waiter);
            waiters_.erase(waiter);
            // A handler never runs within the call that cancels it.
            asio::post(context_, [self = this->shared_from_this(), gone = std::move(gone), why]() mutable {
                self->finish(std::move(gone), why, Item());
            });
            return;
        }
    }

    void finish(Waiter waiter, error_code error, Item item) {
        if (auto slot = asio::get_associated_cancellation_slot(waiter.handler); slot.is_connected())
            slot.clear();
        const auto executor = asio::get_associated_executor(waiter.handler, context_.get_executor());
        asio::dispatch(executor,
                       [handler = std::move(waiter.handler), error, item = std::move(item)]() mutable {
                           std::move(handler)(error, std::move(item));
                       });
    }

    asio::io_context& context_;
    std::deque<Item> items_;
    std::list<Waiter> waiters_;
    std::optional<error_code> closed_;
    std::uint64_t next_id_ = 0;
    bool scheduled_ = false;
};

}  // namespace curvegate::io
