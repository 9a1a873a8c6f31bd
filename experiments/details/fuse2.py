"""fuse NAME DETAILS.pt MINUTES LR"""
import sys, os
src=open("details/tiny.py").read().split('if __name__')[0]
exec(src)
import copy
from featherface.models.folding import frozen_copy
from featherface.data.loader import TrainingLoader
from featherface.config import AugmentConfig
from featherface.evaluation.development import development_ground_truth
from featherface.evaluation.widerface import average_precision
from featherface.data.widerface import open_widerface
from featherface.models.priors import make_priors as mp
class Path_(nn.Module):
    def __init__(self, stage1, hidden=32):
        super().__init__()
        self.tail = copy.deepcopy(stage1[2:]); self.sep = Sep(64, 64)
        self.look = nn.Conv2d(64, hidden, 1); self.read = nn.Conv2d(40, hidden, 1); self.out = nn.Conv2d(hidden, 40, 1)
        nn.init.zeros_(self.out.weight); nn.init.zeros_(self.out.bias)
    def forward(self, shallow, p3):
        d = self.sep(shallow if SHARE else self.tail(shallow))
        return p3 + self.out(F.relu(self.look(d) + self.read(p3)))
SHARE = float(os.environ.get("SHARE", 0))
class Fused(nn.Module):
    def __init__(self, student, stage1):
        super().__init__(); self.student = student; self.path = Path_(stage1)
        self.c, self.b, self.l = (copy.deepcopy(getattr(student.head, n)[0]) for n in ("cls", "box", "landmark"))
    def train(self, mode=True):
        super().train(mode); self.student.eval()
        if SHARE: self.first.eval(); self.path.tail.eval()
        return self
    def p3(self, x):
        s = self.student
        if SHARE:
            with torch.no_grad(): shallow = self.first(x)
            c3 = self.path.tail(shallow)
            with torch.no_grad():
                lv = s.neck(s.backbone_attention(s.backbone(x, known=[c3.detach()]))); lv = s.neck_attention(s.feature_reuse(lv))
                lv = s.dynamic_weight_sharing(s.context(s.multiscale_intelligence(lv))); lv = s.progressive_enhancement(s.shuffle(lv))
            self.c3 = c3
            return c3, lv
        with torch.no_grad():
            shallow = s.backbone.stage1[:2](x)
            lv = s.neck(s.backbone_attention(s.backbone(x))); lv = s.neck_attention(s.feature_reuse(lv))
            lv = s.dynamic_weight_sharing(s.context(s.multiscale_intelligence(lv))); lv = s.progressive_enhancement(s.shuffle(lv))
        return shallow, lv
    def forward(self, x):
        sh, lv = self.p3(x)
        return self.path(sh, lv[0]), lv
    def level3(self, m):
        f = lambda conv, n: conv(m).permute(0, 2, 3, 1).reshape(m.shape[0], -1, n)
        return HeadOutputs(f(self.c, 2), f(self.b, 4), f(self.l, 10))
def slice_(o, n): return HeadOutputs(*(v[:, :n] for v in o))
def full_outputs(net, x, fused=True):
    m, lv = net(x)
    o = net.student.head((lv[0], *lv[1:]))
    if fused:
        o3 = net.level3(m); n = o3.cls_logits.shape[1]
        o = HeadOutputs(*(torch.cat((a, b[:, n:]), 1) for a, b in zip(o3, o)))
    return o
@torch.no_grad()
def dev_eval(net, labs, samples, long_side, fused=True):
    preds, gts, scales = {}, annotated_faces(samples), []
    for lab, name in zip(labs, gts.names):
        H, W = lab.image.shape[:2]; s = long_side/max(H, W); scales.append(s)
        im = cv2.resize(lab.image, (round(W*s), round(H*s)), interpolation=cv2.INTER_AREA if s < 1 else cv2.INTER_LINEAR)
        h, w = im.shape[:2]; ph, pw = -(-h//32)*32, -(-w//32)*32
        x = np.zeros((1, ph, pw, 3), np.float32).transpose(0, 3, 1, 2)
        to_network_input(np.pad(im, ((0, ph-h), (0, pw-w), (0, 0))), out=x[0])
        o = full_outputs(net, torch.from_numpy(x), fused)
        d = postprocess(o.cls_logits[0].numpy(), o.box_deltas[0].numpy(), o.landmark_deltas[0].numpy(), mp((ph, pw)), score_threshold=0.02, iou_threshold=0.4, max_faces=750)
        b = d.boxes_xyxy
        preds[name] = np.column_stack([b[:, :2], b[:, 2:]-b[:, :2], d.scores])
    per = np.repeat(scales, np.diff(gts.offsets))[:, None]; boxes = gts.boxes_xywh*per; hh = boxes[:, 3]
    j = judge(preds, WiderGroundTruth(names=gts.names, boxes_xywh=boxes, offsets=gts.offsets, is_counted={}, total_images=len(samples)))
    ap = lambda m: 100*j.curve(gts.is_valid & m).average_precision
    e = [ap(hh >= t) for t in (50, 30, 10)]
    return "E/M/H %.2f %.2f %.2f mean %.2f | " % (*e, sum(e)/3) + " ".join(f"{lo}-{hi}:{ap((hh>=lo)&(hh<hi)):.1f}" for lo, hi in ((10,13),(13,16),(16,20),(20,24),(24,32),(32,64),(64,128),(128,9999)))
def main(name, init, minutes, lr):
    torch.set_num_threads(int(os.environ.get("NT", 2))); torch.manual_seed(1)
    rest, dev = splits(); dev = dev[::2]; dlabs = cached(dev, "dev"); labs = cached(rest, "rest")
    student = load_model("./featherface/weights/featherface.safetensors"); student.head.forget_second_opinion()
    if os.environ.get("BASE"):
        from featherface.models.backbone import Backbone
        student.backbone = Backbone(stage3_channels=(64, 128)); student.load_state_dict(torch.load(os.environ["BASE"])); student.eval()
    student = frozen_copy(student)
    stage1 = load_model(TEACHER).eval().backbone.stage1
    net = Fused(student, stage1)
    if SHARE:
        w = torch.load("G.pt")["ema"]; g = copy.deepcopy(stage1); g.load_state_dict({k[5:]: v for k, v in w.items() if k.startswith("body.")})
        if os.environ.get("FROM_TEACHER"): g = copy.deepcopy(stage1)
        net.first = g[:2].requires_grad_(False); net.path.tail = copy.deepcopy(g[2:]).requires_grad_(True)
        net.path.sep.load_state_dict({k[7:]: v for k, v in w.items() if k.startswith("head.0.")})
        ref = frozen_copy(stage1).to(memory_format=torch.channels_last); var = None; facc = [0, 0]
        if os.environ.get("CONT"):
            net.load_state_dict(torch.load(os.environ["CONT"])["net"])
    elif init:
        w = torch.load(init)["ema"]
        net.path.tail.load_state_dict({k[5:]: v for k, v in w.items() if k.startswith("tail.")})
        net.path.sep.load_state_dict({k[7:]: v for k, v in w.items() if k.startswith("head.0.")})
    if os.environ.get("CONT") and not SHARE:
        net.load_state_dict({k: v for k, v in torch.load(os.environ["CONT"])["net"].items() if not k.startswith("student.")}, strict=False)
    net = net.to(memory_format=torch.channels_last)
    for c in (net.c, net.b, net.l): c.requires_grad_(True)
    if minutes:
        byname = {s.path: l for s, l in zip(rest, labs)}
        from featherface.imaging import RgbImage
        loader = TrainingLoader(rest, batch_size=16, image_size_px=320, seed=int(time.time()), augment_config=AugmentConfig(crop_scale_max=float(os.environ.get('CROP', 1.3)), min_visible_fraction=0.7), min_face_px=8, read=lambda s: byname[s.path].image, num_threads=1, view_scales=(0.6, 0.8, 1.0))
        params = list(net.path.parameters()) + [p for c in (net.c, net.b, net.l) for p in c.parameters()]
        print("params", sum(p.numel() for p in net.path.parameters()))
        opt = torch.optim.AdamW([{"params": list(net.path.parameters()), "m": 1.0}, {"params": params[len(list(net.path.parameters())):], "m": 0.1}], lr=lr, weight_decay=5e-4)
        sd = net.state_dict(); keys = [k for k in sd if not k.startswith("student.") and sd[k].dtype.is_floating_point]
        ema = {k: sd[k].clone() for k in keys}; ef, nf = [ema[k] for k in keys], [sd[k] for k in keys]
        t0 = time.time(); step = views = 0; acc = np.zeros(4); epoch = 0
        while time.time()-t0 < minutes*60:
            for b in loader.batches(epoch):
                t = time.time()-t0
                if t > minutes*60: break
                frac = t/(minutes*60)
                for g in opt.param_groups: g["lr"] = g["m"]*(lr*(frac/0.05 if frac < 0.05 else 0.5*(1+np.cos(np.pi*(frac-0.05)/0.95)))+1e-5)
                net.train(); m, lv = net(b.images); o = net.level3(m); n = o.cls_logits.shape[1]
                pri = torch.from_numpy(np.array(mp(tuple(b.images.shape[2:]))))
                M = match_priors(pri, b.targets, match_iou_threshold=0.35, min_priors_per_face=2)
                from featherface.losses.matching import Matches
                M3 = Matches(M.labels[:, :n].contiguous(), M.matched_gt_idx[:, :n].contiguous())
                L = multibox_loss(o._replace(cls_logits=o.cls_logits*1.2), pri[:n], b.targets, M3)
                loss = L.cls+2*L.box+0.2*L.landmark
                if SHARE:
                    with torch.no_grad():
                        want = ref(b.images); v = want.var((0, 2, 3)); var = v if var is None else 0.99*var+0.01*v
                    fvu = ((net.c3-want)**2).mean((0, 2, 3)).div(var+1e-6).mean(); loss = loss + SHARE*fvu; facc[0] += fvu.item(); facc[1] += 1
                    if step % 50 == 0: print("fvu %.4f" % (facc[0]/facc[1])); facc = [0, 0]
                if step % 50 == 0:
                    with torch.no_grad():
                        ob = slice_(student.head(lv), n); Lb = multibox_loss(ob._replace(cls_logits=ob.cls_logits*1.2), pri[:n], b.targets, M3)
                        print(f"{name} {t:.0f}s step {step} views {views}: cls {L.cls:.3f} vs base {Lb.cls:.3f}; box {L.box:.3f} vs {Lb.box:.3f}; run mean {acc[0]/max(acc[3],1):.3f} {acc[1]/max(acc[3],1):.3f} {acc[2]/max(acc[3],1):.3f}", flush=True); acc[:] = 0
                opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(params, 10); opt.step(); step += 1; views += len(b.images)
                if step % 3000 == 0: torch.save({"net": {**net.state_dict(), **ema}}, f"details/{name}.part.pt")
                d = min(0.999, (1+step)/(10+step)); torch._foreach_lerp_(ef, nf, 1-d)
                acc += [L.cls.item(), L.box.item(), L.landmark.item(), 1]
            epoch += 1
        for k in keys: sd[k].copy_(ema[k])
        torch.save({"net": net.state_dict()}, f"details/{name}.pt")
    net.eval()
    for side in (1024, 320):
        if not minutes: print("base", side, dev_eval(net, dlabs, dev, side, False), flush=True)
        print(name, side, dev_eval(net, dlabs, dev, side), flush=True)
if sys.argv[1] != "import": main(sys.argv[1], sys.argv[2] if sys.argv[2] != "-" else None, float(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 3e-3)
