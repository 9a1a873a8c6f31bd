"""tiny-face network on small patches. usage: tiny.py NAME KIND MINUTES [lr] [init]"""
import sys, time, threading, queue, pickle, os
from pathlib import Path
import numpy as np, torch, cv2
from torch import nn
from torch.nn import functional as F
cv2.setNumThreads(1)
sys.path.insert(0, ".")
from featherface.data.augment import crop_and_resize, distort_colors
from featherface.data.labeled import label_image
from featherface.data.loader import collate
from featherface.data.reading import read_photograph
from featherface.data.splits import split_dev
from featherface.data.widerface import open_widerface
from featherface.evaluation.annotated import annotated_faces
from featherface.evaluation.widerface import judge, WiderGroundTruth
from featherface.inference.postprocess import postprocess, non_maximum_suppression, decode_boxes
from featherface.imaging import to_network_input
from featherface.losses.matching import match_priors
from featherface.losses.multibox import multibox_loss
from featherface.models.backbone import Backbone
from featherface.models.priors import make_priors
from featherface.structures import HeadOutputs
from featherface.inference.weights import load_model
DATA = Path("../shared/data/widerface"); TEACHER = "../shared/teacher/featherface_v1.safetensors"
SIZE = int(os.environ.get("SIZE", 96)); BATCH = int(os.environ.get("BATCH", 64))

def splits():
    return split_dev(open_widerface(DATA, "train"), fraction=0.07, seed=0)

def cached(samples, name):
    # one memory-mapped block shared by processes
    block, index = Path(f"details/{name}.npy"), Path(f"details/{name}.pkl")
    if not index.exists():
        images = [read_photograph(s) for s in samples]
        offs, total = [], 0
        for im in images: offs.append((total, im.shape)); total += im.size
        flat = np.lib.format.open_memmap(block, mode="w+", dtype=np.uint8, shape=(total,))
        for (o, sh), im in zip(offs, images): flat[o:o+im.size] = im.ravel()
        flat.flush(); index.write_bytes(pickle.dumps(offs))
    flat = np.load(block, mmap_mode="r"); offs = pickle.loads(index.read_bytes())
    return [label_image(np.asarray(flat[o:o+int(np.prod(sh))]).reshape(sh), s.annotation) for (o, sh), s in zip(offs, samples)]

class CBA(nn.Sequential):
    def __init__(self, i, o, k=1, s=1, g=1, act=True):
        super().__init__(nn.Conv2d(i, o, k, s, k//2, groups=g, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True) if act else nn.Identity())
class Sep(nn.Module):
    def __init__(self, i, o, s=1, mid_act=False):
        super().__init__(); self.dw = nn.Conv2d(i, i, 3, s, 1, groups=i, bias=False); self.pw = CBA(i, o, act=False); self.res = i == o and s == 1
    def forward(self, x):
        y = self.pw(self.dw(x)); return F.relu(y + x if self.res else y, inplace=True)

class Wide(nn.Module):
    """own stem: 16 at stride 2, W4 at stride 4, W8 at stride 8"""
    def __init__(self, w4=48, n4=2, w8=64, n8=1):
        super().__init__()
        self.stem = CBA(3, 16, 3, 2)
        self.s4 = nn.Sequential(Sep(16, w4, 2), *[Sep(w4, w4) for _ in range(n4)])
        self.s8 = nn.Sequential(Sep(w4, w8, 2), *[Sep(w8, w8) for _ in range(n8)])
        self.c3 = nn.Conv2d(w8, 64, 1)
        self.head = nn.Sequential(Sep(w8, w8), nn.Conv2d(w8, 12, 1))
    def forward(self, x):
        f = self.s8(self.s4(self.stem(x)))
        return self.head(f), self.c3(f)
class Shared(nn.Module):
    """reads stage 1's 16 channels at stride 2"""
    def __init__(self, stage1, w4=48, n4=2, w8=64, n8=1, first=2):
        super().__init__()
        self.stem = stage1[:first].requires_grad_(False)
        self.s4 = nn.Sequential(Sep(16 if first == 2 else 8, w4, 2), *[Sep(w4, w4) for _ in range(n4)])
        self.s8 = nn.Sequential(Sep(w4, w8, 2), *[Sep(w8, w8) for _ in range(n8)])
        self.head = nn.Sequential(Sep(w8, w8), nn.Conv2d(w8, 12, 1))
    def train(self, mode=True):
        super().train(mode); self.stem.eval(); return self
    def forward(self, x):
        with torch.no_grad(): x = self.stem(x)
        return self.head(self.s8(self.s4(x))), None
ANCHOR = float(os.environ.get('ANCHOR', 0))
class Control(nn.Module):
    def __init__(self, body, learn=False):
        super().__init__()
        self.body = body; self.learn = learn
        for p in body.parameters(): p.requires_grad_(learn)
        self.head = nn.Sequential(Sep(64, 64), Sep(64, 64), Sep(64, 64), nn.Conv2d(64, 12, 1))
    def train(self, mode=True):
        super().train(mode)
        if not self.learn: self.body.eval()
        return self
    def forward(self, x):
        f = self.body(x)
        return self.head(f), f if self.learn and ANCHOR else None

def outputs(p):
    b, _, h, w = p.shape
    p = p.permute(0, 2, 3, 1).reshape(b, h*w, 12)
    cls = p[..., :4].reshape(b, -1, 2); box = p[..., 4:].reshape(b, -1, 4)
    return HeadOutputs(cls, box, box.new_zeros(b, box.shape[1], 10))
def priors(hw): return make_priors(hw, strides=(8,), min_sizes_px=((16, 32),))

LO, HI, MAXUP = 7.5, 30.0, 1.8
def make_view(lab, faces, rng):
    h = lab.boxes_xyxy[:, 3] - lab.boxes_xyxy[:, 1]
    i = faces[rng.integers(len(faces))]
    target = np.exp(rng.uniform(np.log(LO), np.log(HI)))
    scale = min(target / h[i], MAXUP)
    side = max(8, round(SIZE / scale))
    cx, cy = (lab.boxes_xyxy[i, :2] + lab.boxes_xyxy[i, 2:]) / 2
    off = rng.uniform(-0.42, 0.42, 2) * side
    if rng.random() < 0.12:
        off = rng.uniform(-1.5, 1.5, 2) * side
    left, top = int(round(cx + off[0] - side/2)), int(round(cy + off[1] - side/2))
    H, W = lab.image.shape[:2]
    left = int(np.clip(left, min(0, W - side), max(0, W - side))); top = int(np.clip(top, min(0, H - side), max(0, H - side)))
    v = crop_and_resize(lab, left=left, top=top, side=side, size_px=SIZE, min_visible_fraction=0.0)
    img = v.image
    if rng.random() < 0.5: img = distort_colors(img, rng)
    boxes = v.boxes_xyxy
    wh = boxes[:, 2:] - boxes[:, :2]
    ign = v.is_ignored | (wh.min(1) < 6.5) | (wh[:, 1] > 52)
    if rng.random() < 0.5:
        img = np.ascontiguousarray(img[:, ::-1]); boxes = boxes.copy(); boxes[:, [0, 2]] = SIZE - boxes[:, [2, 0]]
    from dataclasses import replace
    return replace(v, image=img, boxes_xyxy=boxes.astype(np.float32), is_ignored=ign)

def feeder(labs, seed, q, stop):
    rng = np.random.default_rng(seed)
    ok = []; weights = []
    for k, l in enumerate(labs):
        wh = l.boxes_xyxy[:, 2:] - l.boxes_xyxy[:, :2]
        f = np.flatnonzero(~l.is_ignored & (wh.min(1) >= 4.0))
        if len(f): ok.append((k, f)); weights.append(min(len(f), 30) ** 0.5)
    p = np.array(weights) / sum(weights)
    while not stop.is_set():
        views = [make_view(labs[ok[j][0]], ok[j][1], rng) for j in rng.choice(len(ok), BATCH, p=p)]
        b = collate(views, [""] * BATCH)
        while not stop.is_set():
            try: q.put(b, timeout=1); break
            except queue.Full: pass

BINS = ((10, 13), (13, 16), (16, 20), (20, 24), (24, 32), (10, 32))
@torch.no_grad()
def evaluate(predict, labs, samples, long_side):
    """predict: (1,3,H,W) -> HeadOutputs-like numpy (cls, box) with `priors`"""
    preds, gts = {}, annotated_faces(samples)
    scales = []
    for lab, name in zip(labs, gts.names):
        H, W = lab.image.shape[:2]; s = long_side / max(H, W); scales.append(s)
        im = cv2.resize(lab.image, (round(W*s), round(H*s)), interpolation=cv2.INTER_AREA if s < 1 else cv2.INTER_LINEAR)
        h, w = im.shape[:2]; ph, pw = -(-h//32)*32, -(-w//32)*32
        x = np.zeros((1, ph, pw, 3), np.float32).transpose(0, 3, 1, 2)
        to_network_input(np.pad(im, ((0, ph-h), (0, pw-w), (0, 0))), out=x[0])
        margin, box, pri = predict(torch.from_numpy(x))
        sc = 1/(1+np.exp(-margin)); k = np.flatnonzero(sc > 0.02)
        bx = decode_boxes(box[k], pri[k]); keep = non_maximum_suppression(bx, sc[k], iou_threshold=0.4, max_faces=750)
        bx, sk = bx[keep], sc[k][keep]
        preds[name] = np.column_stack([bx[:, :2], bx[:, 2:]-bx[:, :2], sk])
    per = np.repeat(scales, np.diff(gts.offsets))[:, None]
    boxes = gts.boxes_xywh * per
    j = judge(preds, WiderGroundTruth(names=gts.names, boxes_xywh=boxes, offsets=gts.offsets, is_counted={}, total_images=len(samples)))
    return " ".join(f"{lo}-{hi}:{100*j.curve(gts.is_valid & (boxes[:,3]>=lo) & (boxes[:,3]<hi)).average_precision:.1f}" for lo, hi in BINS)

def run(name, kind, minutes, lr, init):
    torch.set_num_threads(int(os.environ.get("NT", 1))); torch.manual_seed(1)
    rest, dev = splits(); dev = dev[::2]
    labs = cached(rest, "rest"); dlabs = cached(dev, "dev")
    teacher = load_model(TEACHER).eval()
    stage1 = teacher.backbone.stage1
    if kind.startswith("wide"):
        args = [int(v) for v in kind[4:].split(",")] if kind[4:] else []
        net = Wide(*args)
    elif kind.startswith("shared"):
        args = [int(v) for v in kind[6:].split(",")] if kind[6:] else []
        net = Shared(stage1, *args)
    elif kind == "control": net = Control(stage1)
    elif kind == "tail":
        import copy
        class Tail(nn.Module):
            def __init__(self):
                super().__init__(); self.stem = copy.deepcopy(stage1[:2]).requires_grad_(False); self.tail = copy.deepcopy(stage1[2:])
                self.head = nn.Sequential(Sep(64, 64), nn.Conv2d(64, 12, 1))
            def train(self, mode=True):
                super().train(mode); self.stem.eval(); return self
            def forward(self, x):
                with torch.no_grad(): x = self.stem(x)
                return self.head(self.tail(x)), None
        net = Tail()
    elif kind.startswith("small"):
        import copy
        from featherface.models.layers import SeparableConv
        w8 = int(kind[5:] or 48)
        class Small(nn.Module):
            def __init__(self):
                super().__init__(); self.stem = copy.deepcopy(stage1[:2]).requires_grad_(False)
                self.tail = nn.Sequential(copy.deepcopy(stage1[2]), copy.deepcopy(stage1[3]), SeparableConv(32, w8, stride=2), SeparableConv(w8, w8))
                w = torch.load("details/T.pt")["ema"]
                own = self.tail.state_dict()
                for k in own:
                    v = w["tail.%d%s" % (int(k[0]) + 2, k[1:])]; own[k].copy_(v[tuple(slice(0, n) for n in own[k].shape)])
                self.head = nn.Sequential(Sep(w8, w8), nn.Conv2d(w8, 12, 1))
            def train(self, mode=True):
                super().train(mode); self.stem.eval(); return self
            def forward(self, x):
                with torch.no_grad(): x = self.stem(x)
                return self.head[1](self.tail(x)) if NOSEP else self.head(self.tail(x)), None
        NOSEP = True
        net = Small()
    elif kind == "learn":
        import copy; net = Control(copy.deepcopy(stage1), learn=True)
    if os.environ.get("NOC3") and kind.startswith("wide"):
        del net.c3; net.forward = lambda x: (net.head(net.s8(net.s4(net.stem(x)))), None)
    if init: net.load_state_dict(torch.load(init)["ema"])
    net = net.to(memory_format=torch.channels_last)
    last = net.head[-1]
    if not init:
        nn.init.normal_(last.weight, std=0.01); nn.init.zeros_(last.bias)
        with torch.no_grad(): last.bias[:4] = torch.tensor([2.3, -2.3, 2.3, -2.3])
    params = [p for p in net.parameters() if p.requires_grad]
    print(name, kind, sum(p.numel() for p in params), flush=True)
    opt = torch.optim.AdamW(params, lr=lr, weight_decay=5e-4)
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    sd = net.state_dict(); fk = [k for k in sd if sd[k].dtype.is_floating_point]
    ema_f, net_f = [ema[k] for k in fk], [sd[k] for k in fk]
    q, stop = queue.Queue(8), threading.Event()
    threading.Thread(target=feeder, args=(labs, int(time.time()), q, stop), daemon=True).start()
    pri = torch.from_numpy(np.array(priors((SIZE, SIZE))))
    t0 = time.time(); step = 0; acc = np.zeros(4); mean = var = None; last_eval = t0
    while (t := time.time() - t0) < minutes*60:
        frac = t/(minutes*60)
        for g in opt.param_groups: g["lr"] = lr * (min(1, frac/0.05) if frac < 0.05 else 0.5*(1+np.cos(np.pi*(frac-0.05)/0.95))) + 1e-5
        b = q.get(); net.train()
        x = b.images
        p, c3 = net(x)
        out = outputs(p)
        m = match_priors(pri, b.targets, match_iou_threshold=0.35, min_priors_per_face=2)
        L = multibox_loss(out, pri, b.targets, m)
        loss = L.cls + 2*L.box
        fvu = torch.zeros(())
        if c3 is not None:
            with torch.no_grad():
                want = stage1(x)
                v = want.var((0, 2, 3)); mu = want.mean((0, 2, 3))
                var = v if var is None else 0.99*var + 0.01*v
            got = F.leaky_relu(c3, 0.1) if kind != 'learn' else c3
            fvu = ((got-want)**2).mean((0, 2, 3)).div(var+1e-6).mean()
            loss = loss + (ANCHOR or 4)*fvu
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(params, 10); opt.step(); step += 1
        d = min(0.999, (1+step)/(10+step))
        with torch.no_grad():
            torch._foreach_lerp_(ema_f, net_f, 1-d)
        acc += [L.cls.item(), L.box.item(), fvu.item(), 1]
        if step % 200 == 0:
            print(f"{name} {t:.0f}s step {step} views {step*BATCH} cls {acc[0]/acc[3]:.3f} box {acc[1]/acc[3]:.3f} fvu {acc[2]/acc[3]:.3f}", flush=True); acc[:] = 0
        if time.time() - last_eval > 240 or False:
            torch.save({"ema": ema, "net": net.state_dict()}, f"details/{name}.pt"); last_eval = time.time()
    stop.set()
    torch.save({"ema": ema, "net": net.state_dict()}, f"details/{name}.pt")
    net.load_state_dict(ema); net.eval()
    def predict(x):
        o = outputs(net(x)[0]); return (o.cls_logits[0, :, 1]-o.cls_logits[0, :, 0]).numpy(), o.box_deltas[0].numpy(), priors(tuple(x.shape[2:]))
    for side in (320, 1024): print(name, side, evaluate(predict, dlabs, dev, side), flush=True)

if __name__ == "__main__":
    a = sys.argv
    run(a[1], a[2], float(a[3]), float(a[4]) if len(a) > 4 else 3e-3, a[5] if len(a) > 5 else None)
