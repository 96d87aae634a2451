package registry_test

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// runsScripts tells a store's pipeline from that which greets Redis on a new connection.
func runsScripts(cmds []redis.Cmder) bool { return cmds[0].Name() == "evalsha" }

// repeater sends every pipeline of scripts twice while it is on, as the client library does when a
// connection breaks before the answers came.
type repeater struct {
	on       atomic.Bool
	repeated atomic.Int64
	// between is called after the first of the two; nil: nothing is.
	between func()
}

func (*repeater) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*repeater) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (r *repeater) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !r.on.Load() || !runsScripts(cmds) {
			return next(ctx, cmds)
		}
		r.repeated.Add(1)
		_ = next(ctx, cmds)
		for _, c := range cmds {
			c.SetErr(nil)
		}
		if r.between != nil {
			r.between()
		}
		return next(ctx, cmds)
	}
}

// faulty fails every single command after the first skip ones while err is set; pipelines pass.
type faulty struct {
	err  error
	skip int
}

func (*faulty) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faulty) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.err != nil {
			if f.skip == 0 {
				cmd.SetErr(f.err)
				return f.err
			}
			f.skip--
		}
		return next(ctx, cmd)
	}
}

func (*faulty) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// beforePipeline does something before each pipeline of scripts.
type beforePipeline struct{ do func() }

func (*beforePipeline) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*beforePipeline) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (b *beforePipeline) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if runsScripts(cmds) {
			b.do()
		}
		return next(ctx, cmds)
	}
}

// beforeScripts does something before each script, and says whether it is part of a pipeline.
type beforeScripts struct{ do func(pipelined bool) }

func (*beforeScripts) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *beforeScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" {
			b.do(false)
		}
		return next(ctx, cmd)
	}
}

func (b *beforeScripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if runsScripts(cmds) {
			b.do(true)
		}
		return next(ctx, cmds)
	}
}

// splitter cuts the first pipeline of scripts in two and does something between the halves.
type splitter struct {
	between func()
	done    bool
}

func (*splitter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*splitter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *splitter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if p.done || !runsScripts(cmds) {
			return next(ctx, cmds)
		}
		p.done = true
		first := next(ctx, cmds[:len(cmds)/2])
		p.between()
		return errors.Join(first, next(ctx, cmds[len(cmds)/2:]))
	}
}
