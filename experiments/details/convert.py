"""convert BASE.pt DETAILS.pt ALPHA CONV OUT"""
import sys,torch
from featherface.models.build import build_model
from featherface.inference.weights import save_weights, load_model
from featherface.config import ModelConfig
base,det,alpha,conv,out=sys.argv[1],sys.argv[2],float(sys.argv[3]),float(sys.argv[4]),sys.argv[5]
m=build_model("v2-ultra").eval(); b=torch.load(base); d=torch.load(det)["net"]
own=m.state_dict()
new={k:b[k] for k in own if not k.startswith("details.")}
g=lambda k: d["path."+k]
for k in own:
    if not k.startswith("details."): continue
    n=k[len("details."):]
    if n.startswith("layers."): i,r=n[7:].split(".",1); v=g(f"tail.{int(i)+2}.{r}")
    elif n=="last.depthwise.weight": v=g("sep.dw.weight")
    elif n=="last.pointwise.conv.weight": v=g("sep.pw.0.weight")
    elif n.startswith("last.pointwise.bn."): v=g("sep.pw.1."+n.split("bn.")[1])
    elif n.startswith("from_details."): v=g("look.weight") if n.endswith("weight") else g("look.bias")+g("read.bias")
    elif n=="from_p3.weight": v=g("read.weight")
    elif n.startswith("to_p3."): v=g("out."+n.split(".")[1])*alpha
    else: raise SystemExit(k)
    new[k]=v
for a,p in (("c","cls"),("b","box"),("l","landmark")):
    for w in ("weight","bias"):
        k=f"head.{p}.0.{w}"; new[k]=conv*d[f"{a}.{w}"]+(1-conv)*b[k]
m.load_state_dict(new); m.head.forget_second_opinion()
save_weights(out,m,architecture="v2-ultra",innovations=ModelConfig().innovations)
m=load_model(out); print(m.details.has_learnt,m.details.adds_anything)
